"""Each rule of the challenge on a mask that fits a line: pixels of 100 um, one level-0 pixel each."""

import numpy as np
import pytest

from wsi_hf.evaluation.froc.scoring import froc

MPP = 100.0  # um: outlines do not grow, three pixels in a row are a lesion, two are isolated tumour cells
LESION = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.uint8)
LESION_AND_ITC = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]], np.uint8)
TWO_LESIONS = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]], np.uint8)


def small_froc(masks, detections, convention="challenge", downsample=1.0):
    return froc(masks, detections, convention, mpp=MPP / downsample, downsample=downsample)


def points(result):
    rates, sensitivity = result.false_positives_per_slide, result.sensitivity
    return [(float(rate), float(hits)) for rate, hits in zip(rates, sensitivity, strict=True)]


def test_a_hit_is_sensitivity_and_a_miss_is_a_false_positive():
    result = small_froc({"a": LESION}, {"a": [(0.9, 1, 0), (0.5, 3, 3), (0.1, 3, 3)]})
    assert points(result) == [(0, 0), (0, 1), (1, 1)]
    assert (result.n_slides, result.n_lesions) == (1, 1)


def test_x_is_the_column_and_y_the_row():
    wide = np.array([[0, 0, 0, 0], [0, 1, 1, 1]], np.uint8)
    assert small_froc({"a": wide}, {"a": [(0.9, 3, 1)]}).lesions["a"].best_score == {1: 0.9}
    assert small_froc({"a": wide}, {"a": [(0.9, 1, 3)]}).lesions["a"].best_score == {1: None}


def test_coordinates_are_floored():
    hit = small_froc({"a": LESION}, {"a": [(0.9, 31, 31)]}, downsample=32)
    assert hit.lesions["a"].best_score == {1: 0.9}
    missed = small_froc({"a": LESION}, {"a": [(0.9, 31, 32)]}, downsample=32)
    assert missed.lesions["a"].best_score == {1: None}


def test_the_release_rounds_coordinates():
    rounded_down = small_froc({"a": LESION}, {"a": [(0.9, 0, 15)]}, "release", downsample=32)
    assert rounded_down.lesions["a"].best_score == {1: 0.9}
    rounded_up = small_froc({"a": LESION}, {"a": [(0.9, 0, 17)]}, "release", downsample=32)
    assert rounded_up.lesions["a"].best_score == {1: None}


def test_the_best_of_several_hits_counts_and_the_others_are_free():
    result = small_froc({"a": LESION}, {"a": [(0.3, 0, 0), (0.9, 1, 0), (0.6, 2, 0)]})
    assert result.lesions["a"].best_score == {1: 0.9}
    assert len(result.lesions["a"].false_positives) == 0


def test_isolated_tumour_cells_neither_count_nor_cost():
    result = small_froc({"a": LESION_AND_ITC}, {"a": [(0.9, 3, 3), (0.8, 0, 0), (0.1, 0, 3)]})
    assert result.n_lesions == 1
    assert result.lesions["a"].itc_labels == (2,)
    assert result.lesions["a"].lesion_labels == (1,)
    assert result.lesions["a"].false_positives.tolist() == [0.1]
    assert points(result) == [(0, 0), (0, 1), (1, 1)]


def test_isolated_tumour_cells_count_as_lesions_only_on_request():
    detections = {"a": [(0.9, 3, 3), (0.1, 0, 3)]}
    result = froc({"a": LESION_AND_ITC}, detections, mpp=MPP, downsample=1.0, include_itc=True)
    assert (result.n_lesions, result.include_itc) == (2, True)
    assert result.lesions["a"].best_score == {1: None, 2: 0.9}


def test_every_detection_on_a_benign_slide_is_a_false_positive():
    result = small_froc({"a": LESION, "b": None}, {"a": [(0.9, 0, 0)], "b": [(0.8, 0, 0), (0.7, 0, 0)]})
    assert result.false_positives_per_slide[-1] == 0.5  # the smallest score is no threshold
    assert not result.lesions["b"].malignant


@pytest.mark.parametrize("benign", [None, np.zeros((4, 4), np.uint8), np.zeros((0, 0), np.uint8)])
def test_no_mask_and_an_empty_mask_are_the_same_benign_slide(benign):
    result = small_froc({"a": LESION, "b": benign}, {"a": [(0.9, 0, 0)], "b": [(0.8, 0, 0)]})
    assert result.n_lesions == 1
    assert result.lesions["b"].false_positives.tolist() == [0.8]


def test_a_detection_outside_the_mask_is_a_false_positive():
    result = small_froc({"a": LESION}, {"a": [(0.9, 400, 0), (0.8, 0, 400)]})
    assert result.lesions["a"].false_positives.tolist() == [0.9, 0.8]


def test_a_slide_without_detections_counts_among_the_slides():
    masks = {"a": LESION, "b": None, "c": None, "d": None}
    detections = {"a": [(0.9, 3, 3), (0.5, 0, 0), (0.1, 3, 3)], "b": [], "c": np.zeros((0, 3)), "d": []}
    result = small_froc(masks, detections)
    assert result.n_slides == 4
    assert points(result) == [(0, 0), (0.25, 0), (0.25, 1)]


def test_a_slide_without_a_detection_list_is_left_out_and_named():
    with pytest.warns(UserWarning, match="1 slides have no detection list.*'b'"):
        result = small_froc({"a": LESION, "b": LESION}, {"a": [(0.9, 0, 0), (0.8, 3, 3)]})
    assert (result.n_slides, result.n_lesions) == (1, 1)


def test_sensitivity_is_pooled_over_the_lesions_of_all_slides():
    masks = {"a": TWO_LESIONS, "b": LESION}
    result = small_froc(masks, {"a": [(0.9, 0, 0)], "b": []})
    assert result.sensitivity[-1] == pytest.approx(1 / 3)
    assert result.n_lesions == 3


def test_equal_scores_enter_the_curve_together():
    result = small_froc({"a": LESION}, {"a": [(0.5, 0, 0), (0.5, 3, 3), (0.1, 3, 3)]})
    assert points(result) == [(0, 0), (1, 1)]
    assert result.sensitivity_at == (0.25, 0.5, 1, 1, 1, 1)


def test_the_curve_is_interpolated_between_its_points():
    result = small_froc({"a": TWO_LESIONS}, {"a": [(0.9, 0, 0), (0.8, 3, 0), (0.7, 3, 3), (0.6, 3, 0), (0.5, 3, 0)]})
    assert points(result) == [(0, 0), (0, 0.5), (1, 0.5), (1, 1), (2, 1)]
    assert result.sensitivity_at == (0.5, 0.5, 1, 1, 1, 1)
    three = small_froc({"a": TWO_LESIONS}, {"a": [(0.8, 3, 0), (0.8, 0, 0), (0.5, 3, 0)]})
    assert three.sensitivity_at == (0.125, 0.25, 0.5, 0.5, 0.5, 0.5)  # the last point reaches to the right
    assert three.average == pytest.approx(np.mean([0.125, 0.25, 0.5, 0.5, 0.5, 0.5]))


def test_the_release_reads_the_curve_as_steps():
    result = small_froc({"a": TWO_LESIONS}, {"a": [(0.8, 3, 0), (0.8, 0, 0), (0.5, 3, 0)]}, "release")
    assert points(result) == [(0, 0), (1, 0.5), (2, 0.5)]
    assert result.sensitivity_at == (0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


def test_the_smallest_score_is_no_threshold():
    result = small_froc({"a": LESION}, {"a": [(0.9, 0, 0)]})
    assert points(result) == [(0, 0)]
    assert result.average == 0.0  # one perfect detection, true to the original


def test_a_missed_lesion_is_the_smallest_score():
    result = small_froc({"a": TWO_LESIONS}, {"a": [(0.9, 0, 0)]})
    assert points(result) == [(0, 0), (0, 0.5)]


def test_isolated_tumour_cells_are_the_smallest_score_too():
    result = small_froc({"a": LESION_AND_ITC}, {"a": [(0.9, 0, 0)]})
    assert points(result) == [(0, 0), (0, 1)]


def test_the_release_drops_only_the_score_0():
    perfect = small_froc({"a": LESION}, {"a": [(0.9, 0, 0)]}, "release")
    assert perfect.average == 1.0
    zero = small_froc({"a": LESION}, {"a": [(0.9, 0, 0), (0.0, 3, 3)]}, "release")
    assert points(zero) == [(0, 0), (0, 1)]


def test_without_lesions_sensitivity_is_nan_and_a_warning_says_so():
    with pytest.warns(UserWarning, match="no slide has a lesion"):
        result = small_froc({"a": None}, {"a": [(0.9, 0, 0), (0.8, 0, 0)]})
    assert np.isnan(result.average)
    assert np.isnan(result.sensitivity_at).all()
    assert result.n_lesions == 0


@pytest.mark.parametrize("second", [(1.0, 3, 3), (1.0, 3, 1)])  # hits the second lesion, misses it
def test_logit_margins_give_the_curve_of_their_probabilities(second):
    margins = np.array([(3.0, 0, 0), second, (-2.0, 3, 0), (-4.0, 0, 1)])
    probabilities = margins.copy()
    probabilities[:, 0] = 1 / (1 + np.exp(-margins[:, 0]))
    for convention in ("challenge", "release"):
        by_margin = small_froc({"a": TWO_LESIONS}, {"a": margins}, convention)
        by_probability = small_froc({"a": TWO_LESIONS}, {"a": probabilities}, convention)
        assert points(by_margin) == points(by_probability)


def test_the_default_is_level_5_of_a_scan_at_0_243_um():
    mask = np.zeros((80, 80), np.uint8)
    mask[20:22, 20:60] = 1
    result = froc({"a": mask}, {"a": [(0.9, 30 * 32, 25 * 32), (0.8, 30 * 32, 26 * 32)]})
    assert result.lesions["a"].best_score == {1: 0.9}  # 4 rows below the outline: inside its growth
    assert result.lesions["a"].false_positives.tolist() == [0.8]  # 5 rows below


def test_each_slide_may_have_its_own_pixel_size():
    by_hand = froc({"a": LESION}, {"a": [(0.9, 8, 3)]}, mpp=25.0, downsample=4.0)
    per_slide = froc(
        {"a": LESION, "b": None},
        {"a": [(0.9, 8, 3)], "b": []},
        mpp={"a": 25.0, "b": 0.5},
        downsample={"a": 4.0, "b": 200.0},
    )
    assert by_hand.lesions["a"].best_score == per_slide.lesions["a"].best_score == {1: 0.9}
    fractional = froc({"a": LESION}, {"a": [(0.9, 44, 17)]}, mpp=100 / 17.128, downsample=17.128)
    assert fractional.lesions["a"].best_score == {1: 0.9}
