import time

import numpy as np
import pytest
import shapely
from shapely import MultiPolygon, Polygon

from wsi_hf.reports.placement import share_of_tumour_patches

SQUARE = MultiPolygon([shapely.box(100, 100, 200, 200)])


def test_a_patch_that_reaches_into_the_tumour_holds_tumour():
    drawn = share_of_tumour_patches(
        [0, 0, 0, 0], ["a"] * 4, [(150, 150), (60, 150), (49, 150), (220, 240)], {"a": SQUARE}, 100
    )
    assert drawn.share.tolist() == [0.75]
    assert drawn.n.tolist() == [4]


def test_a_patch_inside_a_hole_holds_none():
    ring = Polygon([(0, 0), (400, 0), (400, 400), (0, 400)], [[(100, 100), (300, 100), (300, 300), (100, 300)]])
    assert share_of_tumour_patches([0, 0], ["a", "a"], [(200, 200), (110, 200)], {"a": ring}, 64).share.tolist() == [
        0.5
    ]


def test_benign_slides_and_slides_without_outline_are_left_out():
    areas = {"a": SQUARE, "c": MultiPolygon()}
    drawn = share_of_tumour_patches([0, 0, 0], ["a", "b", "c"], [(150, 150)] * 3, areas, 10)
    assert drawn.n.tolist() == [1]


def test_steps_are_binned():
    drawn = share_of_tumour_patches(
        [0, 1, 2, 9], ["a"] * 4, [(150, 150), (0, 0), (150, 150), (0, 0)], {"a": SQUARE}, 10, every=2
    )
    assert drawn.steps.tolist() == [0.5, 2.5, 8.5]
    assert drawn.share.tolist() == [0.5, 1.0, 0.0]
    assert drawn.n.tolist() == [2, 1, 1]


def test_the_side_of_a_patch_may_differ_by_slide():
    side = {"a": 10.0, "b": 200.0}
    drawn = share_of_tumour_patches([0, 1], ["a", "b"], [(50, 150), (50, 150)], {"a": SQUARE, "b": SQUARE}, side)
    assert drawn.share.tolist() == [0.0, 1.0]


def test_no_draws_give_an_empty_course():
    assert len(share_of_tumour_patches([], [], np.zeros((0, 2)), {"a": SQUARE}, 10).share) == 0


def test_ten_thousand_draws_take_seconds():
    rng = np.random.default_rng(0)
    circle = shapely.Point(50_000, 50_000).buffer(20_000, quad_segs=2000)
    names = np.array([f"s{i}" for i in range(100)])[rng.integers(0, 100, 10_000)]
    start = time.process_time()
    share_of_tumour_patches(
        np.arange(10_000) // 16, names, rng.uniform(0, 1e5, (10_000, 2)), {f"s{i}": circle for i in range(100)}, 1000.0
    )
    assert time.process_time() - start < 5


def test_draws_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2 steps, 1 slides and 1 centres"):
        share_of_tumour_patches([0, 1], ["a"], [(0, 0)], {}, 10)
