"""Outlines of labelled pixels."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from wsi_hf.inference.tiling import TileGrid
from wsi_hf.segmentation.lesions import find_lesions
from wsi_hf.segmentation.outlines import trace_outlines


def boxes(mask: np.ndarray) -> shapely.Geometry:
    return shapely.union_all([shapely.box(x, y, x + 1, y + 1) for y, x in zip(*np.nonzero(mask), strict=True)])


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_each_label_becomes_one_valid_polygon_of_its_pixels(mask):
    labels, count = ndimage.label(mask)
    outlines = trace_outlines(labels)
    assert sorted(outlines) == list(range(1, count + 1))
    for label, polygon in outlines.items():
        assert polygon.geom_type == "Polygon"
        assert polygon.is_valid
        assert polygon.equals(boxes(labels == label))


def test_a_hole_that_touches_the_outside_at_a_corner_stays_a_hole():
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]])
    polygon = trace_outlines(ring)[1]
    assert polygon.is_valid
    assert polygon.area == 7


@settings(max_examples=40, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 17), st.integers(1, 17))), st.integers(1, 9))
def test_lesions_do_not_depend_on_the_tiles(mask, tile_size):
    p = mask * np.float32(0.75)
    grid = TileGrid.cover((mask.shape[1], mask.shape[0]), tile_size, 1)
    lesions = find_lesions(p, grid.tiles(), threshold=0.5, smallest_px=2, downsample=1.0)
    labels, count = ndimage.label(mask)
    expected = [boxes(labels == n) for n in range(1, count + 1) if (labels == n).sum() >= 2]
    assert len(lesions) == len(expected)
    for lesion in lesions:
        (polygon,) = lesion.polygons
        assert polygon.is_valid
        assert polygon.area == lesion.pixels
        assert any(polygon.equals(other) for other in expected)
        points = np.asarray(polygon.exterior.coords)
        assert (np.abs(np.diff(points, axis=0)).min(axis=1) == 0).all()


def test_a_lesion_knows_its_largest_and_mean_probability():
    p = np.array([[0.5, 0.9, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.6]], np.float32)
    tiles = TileGrid((3, 3), (2, 2)).tiles()
    best, other = find_lesions(p, tiles, threshold=0.5, smallest_px=1, downsample=4.0)
    assert (best.pixels, best.largest) == (3, pytest.approx(0.9))
    assert best.total / best.pixels == pytest.approx(0.7)
    assert other.polygons[0].bounds == (8.0, 8.0, 12.0, 12.0)
