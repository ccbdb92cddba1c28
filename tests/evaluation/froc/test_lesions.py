import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tests.evaluation.froc.froc_reference import reference_regions
from wsi_hf.evaluation.froc.lesions import evaluation_mask, fill_holes, find_lesions, grow

NO_GROWTH = 100.0  # um per pixel: half of 75 um is less than a pixel, a region of three pixels in a row is no ITC


def dots(*columns: int) -> np.ndarray:
    mask = np.zeros((15, 60), np.uint8)
    mask[7, list(columns)] = 1
    return mask


def test_foci_nearer_than_75_um_are_one_lesion():
    assert find_lesions(dots(20, 29)).n_regions == 1  # 9 px = 70 um apart
    assert find_lesions(dots(20, 30)).n_regions == 2  # 10 px = 78 um apart


def test_an_outline_grows_by_less_than_37_and_a_half_um_in_a_straight_line():
    assert np.flatnonzero(evaluation_mask(dots(20))[7]).tolist() == list(range(16, 25))  # 4 px; 5 px would be 38.9 um


def test_growth_is_strictly_below_the_limit():
    pixel = np.zeros((5, 5), bool)
    pixel[2, 2] = True
    assert grow(pixel, 1.0).sum() == 1
    assert grow(pixel, 1.01).sum() == 5
    assert grow(pixel, np.hypot(1, 1)).sum() == 5
    assert grow(pixel, 1.5).sum() == 9


def test_the_pixel_size_of_the_slide_decides_what_merges():
    assert find_lesions(dots(20, 30), pixel_um=7.2).n_regions == 1
    assert find_lesions(dots(20, 29), pixel_um=9.5).n_regions == 2


def test_a_hole_belongs_to_its_lesion():
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    assert evaluation_mask(np.pad(ring, 1), NO_GROWTH, 1)[2, 2] == 1


def test_a_gap_closed_only_by_corners_is_a_hole():
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert evaluation_mask(np.pad(diamond, 1), NO_GROWTH, 1)[2, 2] == 1


def test_a_bay_at_the_slides_border_is_no_hole():
    bay = np.array([[1, 0, 1], [1, 0, 1], [1, 1, 1]])
    assert evaluation_mask(bay, NO_GROWTH, 1).tolist() == bay.tolist()


def test_regions_that_touch_at_a_corner_are_one_lesion():
    corner = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    assert find_lesions(corner, NO_GROWTH).n_regions == 1


def test_a_lesion_inside_the_hole_of_another_is_part_of_it():
    ring = np.ones((200, 200), np.uint8)
    ring[10:190, 10:190] = 0
    ring[100, 100] = 1
    assert find_lesions(ring).n_regions == 1


def test_a_region_whose_major_axis_is_below_275_um_is_isolated_tumour_cells():
    pair, triple = np.array([[1, 1, 0, 0]]), np.array([[1, 1, 1, 0]])
    assert find_lesions(pair, NO_GROWTH).itc_labels == (1,)  # 4 * sqrt((2^2 - 1) / 12) = 2.00 px < 2.75 px
    assert find_lesions(triple, NO_GROWTH).lesion_labels == (1,)  # 3.27 px
    assert find_lesions(triple, 275 / (4 * np.sqrt(8 / 12))).itc_labels == ()  # exactly 275 um is a lesion


def test_the_axis_counts_and_not_the_area():
    square, line = np.ones((3, 3), int), np.ones((1, 4), int)
    assert find_lesions(square, pixel_um=80.0).itc_labels == (1,)  # 9 pixels, axis 261 um
    assert find_lesions(line, pixel_um=80.0).itc_labels == ()  # 4 pixels, axis 358 um


def test_an_empty_mask_has_no_lesion():
    lesions = find_lesions(np.zeros((20, 20), np.uint8))
    assert lesions.n_regions == 0
    assert not evaluation_mask(np.zeros((20, 20), np.uint8)).any()


def test_a_mask_full_of_tumour_is_one_lesion():
    assert find_lesions(np.ones((50, 50), np.uint8)).lesion_labels == (1,)


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.floats(0.3, 9.0))
def test_growth_is_the_distance_transform_below_the_limit(tumour, reach):
    expected = ndimage.distance_transform_edt(~tumour) < reach if tumour.any() else tumour
    assert (grow(tumour, reach) == expected).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_regions_found_window_by_window_are_those_of_the_whole_mask(seed):
    rng = np.random.default_rng(seed)
    tumour = np.zeros(rng.integers(1, 400, 2), bool)
    for _ in range(rng.integers(0, 9)):
        (y, x), (h, w) = rng.integers(0, tumour.shape), rng.integers(1, 150, 2)
        tumour[y : y + h, x : x + w] ^= True
        if rng.random() < 0.5:
            tumour[y + 5 : y + h - 5, x + 5 : x + w - 5] = False
    expected, axes = reference_regions(tumour, 7.776)
    lesions, labels = find_lesions(tumour), evaluation_mask(tumour)
    pairs = {(int(a), int(b)) for a, b in zip(labels.ravel(), expected.ravel(), strict=True)} - {(0, 0)}
    assert len(pairs) == len(axes) == lesions.n_regions  # one to one
    assert all(a and b for a, b in pairs)
    itc = {a for a, b in pairs if axes[b] < 275 / 7.776}
    assert itc == set(lesions.itc_labels) or min(abs(axis - 275 / 7.776) for axis in axes.values()) < 1e-9


def test_labels_are_looked_up_in_every_window_and_are_0_outside():
    mask = np.zeros((300, 300), np.uint8)
    mask[10:60, 10:60] = mask[200:260, 200:260] = 1
    lesions = find_lesions(mask)
    whole = evaluation_mask(mask)
    rows, columns = np.array([30, 230, 30, 5000, 299]), np.array([30, 230, 230, 0, 301])
    assert lesions.at(rows, columns).tolist() == [whole[30, 30], whole[230, 230], 0, 0, 0]
    assert sorted(lesions.at(rows[:2], columns[:2]).tolist()) == [1, 2]


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 40)])
def test_masks_smaller_than_the_growth_are_handled(shape):
    assert find_lesions(np.ones(shape, bool)).n_regions == 1


@settings(deadline=None, max_examples=50)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_holes_are_those_that_scipy_fills(region):
    np.testing.assert_array_equal(fill_holes(region), ndimage.binary_fill_holes(region))
