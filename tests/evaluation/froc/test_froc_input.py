"""Bad masks and detections are refused with the slide's name and the way out."""

import numpy as np
import pytest

from wsi_hf.evaluation.froc.scoring import froc

MASK = np.zeros((40, 60), np.uint8)
MASK[10:30, 10:55] = 1


def froc_of_one(mask=MASK, detections=((0.9, 400, 400),), **settings):
    return froc({"tumor_001": mask}, {"tumor_001": detections}, **settings)


@pytest.mark.parametrize(
    ("detections", "reason"),
    [
        ([("score", "x", "y"), (0.9, 1, 1)], "no header or text"),
        ([(0.9, "left", 1)], "no header or text"),
        ([(0.9, np.nan, 1)], "detection 0 holds NaN"),
        ([(0.5, 1, 1), (np.inf, 1, 1)], "detection 1 holds NaN or infinity"),
        ([(0.9, 4, -1)], "detection 0 has negative coordinates"),
        ([(0.9, 4)], r"shape \(n, 3\)"),
        ([0.9, 4, 4], r"shape \(n, 3\)"),
        (None, "pass an empty array"),
    ],
)
def test_bad_detections_are_refused(detections, reason):
    with pytest.raises(ValueError, match=f"tumor_001.*{reason}"):
        froc_of_one(detections=detections)


def test_detections_of_an_unknown_slide_are_refused():
    with pytest.raises(ValueError, match=r"without a mask entry.*'tumor_002'"):
        froc({"tumor_001": MASK}, {"tumor_001": [], "tumor_002": []})


def test_no_detection_list_at_all_is_refused():
    with pytest.raises(ValueError, match="no slide has a detection list"):
        froc({"tumor_001": MASK}, {})


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (MASK * 7, r"unknown values \[7\]"),
        (MASK * 0.5, r"unknown values \[0.5\]"),
        (np.where(MASK, 255, 1), r"mixes the values \[1, 255\]"),
        (np.stack([MASK] * 3, axis=-1), "single channel"),
        (MASK[0], r"shape \(H, W\)"),
    ],
)
def test_masks_with_unknown_values_or_shapes_are_refused(mask, reason):
    with pytest.raises(ValueError, match=f"tumor_001.*{reason}"):
        froc_of_one(mask)


@pytest.mark.parametrize("value", [1, 2, 255, True])
def test_every_documented_coding_of_tumour_is_understood(value):
    assert froc_of_one((MASK > 0) * np.uint8(value) if value is not True else MASK > 0).n_lesions == 1


def test_in_the_released_coding_1_is_not_tumour():
    released = MASK.copy()
    released[12:20, 12:50] = 2
    assert froc_of_one(released, [(0.9, 52 * 32, 28 * 32)]).lesions["tumor_001"].best_score == {1: None}
    no_tumour = froc({"a": MASK, "b": MASK}, {"a": [], "b": []}, tumour_value=1)
    assert no_tumour.n_lesions == 2
    with pytest.warns(UserWarning, match="no slide has a lesion"):
        assert froc_of_one(tumour_value=2).n_lesions == 0


def test_a_mask_of_another_level_or_slide_is_refused():
    fits = {"tumor_001": (60 * 32 - 5, 40 * 32 + 5)}
    assert froc_of_one(dimensions_l0=fits).n_lesions == 1
    with pytest.raises(ValueError, match=r"tumor_001: the mask has 120 x 80 .*make 60 x 40; wrong level or slide"):
        froc_of_one(np.kron(MASK, np.ones((2, 2), np.uint8)), dimensions_l0=fits)
    with pytest.raises(ValueError, match=r"tumor_001.*wrong level or slide"):
        froc_of_one(dimensions_l0={"tumor_001": (40 * 32, 60 * 32)})
    with pytest.raises(ValueError, match="tumor_001: dimensions_l0 lacks this slide"):
        froc_of_one(dimensions_l0={"tumor_002": (40 * 32, 60 * 32)})


def test_a_mask_longer_than_a_glass_slide_is_refused():
    level_1 = np.zeros((10, 40_000), bool)
    with pytest.raises(ValueError, match=r"tumor_001.*longer than a glass slide"):
        froc_of_one(level_1)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"convention": "original"}, "convention must be"),
        ({"mpp": 0}, "tumor_001: mpp must be positive"),
        ({"mpp": {"tumor_002": 0.243}}, "tumor_001: mpp is given per slide but lacks this one"),
        ({"downsample": {}}, "tumor_001: downsample is given per slide"),
        ({"tumour_value": 3}, "tumour_value must be one of"),
    ],
)
def test_bad_settings_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        froc_of_one(**settings)
