"""Figures of a cohort from records written by hand."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from shapely import MultiPolygon

from wsi_hf.evaluation.pixel_counts import count_pixels
from wsi_hf.evaluation.records import SlideRecord, load_record
from wsi_hf.evaluation.results import evaluate_records
from wsi_hf.evaluation.slide_score import robust_margin

LESION = MultiPolygon([shapely.box(0, 0, 3200, 3200)])  # 100 mask pixels wide
MARGINS = np.array([[45.0, 2.0], [-3.0, -np.inf]], np.float32)


def record(slide_id: str, label: int, margin: float, **changes) -> SlideRecord:
    outline = LESION if label else MultiPolygon()
    truth = np.array([[bool(label), False], [False, False]])
    made = SlideRecord(
        slide_id=slide_id,
        label=label,
        margin=margin,
        robust_margin=margin - 1,
        mpp=0.243,
        dimensions_l0=(6400, 6400),
        exhaustive=True,
        not_analysed=[],
        outline=outline,
        detections=np.array([[margin, 100.0, 200.0]]),
        pixels=count_pixels(slide_id, MARGINS, truth, margins=True),
        image=np.full((4, 4, 3), 200, np.uint8),
        heat=np.zeros((2, 2), np.float32),
    )
    return replace(made, **changes)


def cohort(*records: SlideRecord):
    return evaluate_records({made.slide_id: made for made in records})


def test_one_odd_pixel_does_not_decide_the_robust_score():
    odd, dull = np.full((100, 100), -2.0, np.float32), np.full((100, 100), 1.0, np.float32)
    odd[3, 4] = 50.0
    odd[50:] = -np.inf
    assert robust_margin(odd, 1.0) == pytest.approx((50 + 499 * -2.0) / 500)
    assert robust_margin(dull, 2.0) == 1.0
    assert robust_margin(np.full((2, 2), -np.inf), 1.0) == -np.inf
    evaluation = cohort(record("m", 1, 5.0, robust_margin=1.0), record("b", 0, 50.0, robust_margin=-2.0))
    figures = evaluation.metrics()
    assert (figures["slide_auc"]["value"], figures["slide_auc_robust"]["value"]) == (0.0, 1.0)


def test_slides_and_detections_whose_probability_rounds_to_1_are_ranked_by_their_margins():
    evaluation = cohort(record("m", 1, 60.0), record("b", 0, 50.0), record("c", 0, 45.0))
    assert {made.score for made in evaluation.records.values()} == {1.0}
    assert evaluation.roc.auc == 1.0
    assert evaluation.froc.sensitivity_at == (1.0,) * 6
    assert cohort(record("m", 1, 50.0), record("b", 0, 60.0)).roc.auc == 0.0


def test_the_error_of_a_slide_is_the_share_of_the_other_label_on_its_wrong_side():
    evaluation = cohort(record("m", 1, 1.0), record("n", 1, 5.0), record("b", 0, 1.0), record("c", 0, 2.0))
    rows = evaluation.rows()
    assert [(row.slide_id, row.error) for row in rows] == [("m", 0.75), ("c", 0.5), ("b", 0.25), ("n", 0.0)]
    assert evaluation.roc.auc == 1 - (0.75 + 0) / 2 == 1 - (0.5 + 0.25) / 2
    assert np.isnan(cohort(record("b", 0, 1.0)).rows()[0].error)


def test_rows_count_what_stands_at_half_a_probability_or_more():
    low = np.array([[2.0, 100, 200], [-1.0, 6000, 6000], [0.5, 5000, 5000]])
    missed = np.array([[-2.0, 100, 200]])
    rows = cohort(
        record("m", 1, 2.0, detections=low), record("n", 1, -2.0, detections=missed), record("b", 0, 0.0)
    ).rows()
    assert {row.slide_id: (row.lesions, row.found, row.false_positives) for row in rows} == {
        "m": (1, 1, 1),
        "n": (1, 0, 0),
        "b": (0, 0, 1),
    }


def test_slides_whose_tumour_is_not_known_stay_out_of_froc_and_pixels():
    unknown = record("u", 1, 3.0, outline=None, pixels=None)
    partly = record("p", 1, 2.0, exhaustive=False, pixels=None)
    evaluation = cohort(record("m", 1, 1.0), unknown, partly, record("b", 0, 0.0))
    assert (evaluation.roc.n, evaluation.froc.n_slides, evaluation.pixels.dice.n) == (4, 2, 2)
    assert {row.slide_id: row.note for row in evaluation.rows() if row.note} == {
        "u": "no annotation",
        "p": "not exhaustively annotated",
    }
    with pytest.raises(ValueError, match="nothing to compare with"):
        cohort(unknown)
    with pytest.raises(ValueError, match="no slide could be judged\nx: it is broken"):
        evaluate_records({}, {"x": "it is broken"})


def test_both_scanners_of_the_challenge_are_judged_with_its_one_constant():
    wide = MultiPolygon([shapely.box(0, 0, 1000, 2400)])  # 75 mask pixels long
    for mpp in (0.243, 0.227):
        figure = cohort(record("m", 1, 1.0, mpp=mpp, outline=wide), record("b", 0, 0.0)).froc
        assert (figure.n_lesions, figure.lesions["m"].itc_labels) == (1, ())
    # 20 + 9 pixels of 7.776 um are shorter than 275 um; at 0.5 um/px the same outline is twice as long
    small = MultiPolygon([shapely.box(0, 0, 640, 640)])
    counts = {
        mpp: cohort(record("m", 1, 1.0, mpp=mpp, outline=small), record("b", 0, 0.0)).metrics()["froc"]
        for mpp in (0.227, 0.243, 0.5)
    }
    assert {mpp: figure["n_isolated_tumour_cells"] for mpp, figure in counts.items()} == {0.227: 1, 0.243: 1, 0.5: 0}


def test_a_record_comes_back_for_its_own_key_alone(tmp_path):
    made = record("m", 1, 1.5, not_analysed=[{"bounds_l0": [0, 0, 8, 8], "reason": "unreadable"}])
    path = tmp_path / "m.npz"
    assert load_record(path, "key") is None
    made.save(path, "key")
    assert load_record(path, "another") is None
    back = load_record(path, "key")
    assert (back.margin, back.dimensions_l0, back.not_analysed) == (1.5, (6400, 6400), made.not_analysed)
    assert back.outline.equals(LESION)
    np.testing.assert_array_equal(back.detections, made.detections)
    np.testing.assert_array_equal(back.pixels.confusion, made.pixels.confusion)
    assert back.image.shape == (4, 4, 3)
    record("u", 1, 0.0, outline=None, pixels=None).save(path, "key")
    assert load_record(path).outline is load_record(path).pixels is None
