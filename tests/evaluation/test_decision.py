"""Verdicts at the operating point, false lesions and honest probabilities, from literal slides."""

import numpy as np
import pytest

from wsi_hf.evaluation.decision import calibration_error, decision_figures, reliability
from wsi_hf.evaluation.pixel_counts import count_pixels

from .test_results import MARGINS, cohort, record


def slides():
    return cohort(
        record("b1", 0, 9.0, slide_probability=0.2),
        record("b2", 0, 12.0, slide_probability=0.83, lesions_um2=[900.0, 200.0]),
        record("m1", 1, 20.0, slide_probability=0.9, lesions_um2=[5000.0], truth_um2=[(900.0, True), (300.0, False)]),
        record("m2", 1, 8.0, slide_probability=0.1, truth_um2=[(600.0, False)]),
        record("m3", 1, 30.0, slide_probability=0.99, lesions_um2=[100.0], truth_um2=[(700.0, True)]),
    )


def test_verdicts_lesions_and_confusion_are_counted():
    figures = slides().metrics()
    assert figures["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert figures["sensitivity"]["n"] == 3
    assert figures["specificity"]["value"] == 0.5
    assert figures["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 0.5) / 2)
    assert (figures["false_lesions"]["value"], figures["false_lesions"]["median"]) == (1.0, 1.0)
    assert (figures["lesions_found"]["value"], figures["lesions_found"]["n_lesions"]) == (pytest.approx(2 / 3), 3)
    decision = figures["decision"]
    assert decision["calibrated"]
    assert list(decision["confusion"].values()) == [1, 1, 1, 2]


def test_rankings_do_not_change_by_the_calibration():
    calibrated, raw = slides(), cohort(record("b1", 0, 9.0), record("b2", 0, 12.0), record("m1", 1, 20.0))
    assert calibrated.roc.auc == pytest.approx(4 / 6)  # by the margins
    assert calibrated.records["b2"].raw_score == raw.records["b2"].score
    assert not decision_figures(raw.records)["decision"]["calibrated"]


def test_a_slide_is_titled_with_truth_and_verdict():
    evaluation = slides()
    assert evaluation.records["b2"].panel().title == "b2: benign, called malignant (0.83)"
    assert {row.slide_id: row.called for row in evaluation.rows()}["m2"] == "benign"


def test_honest_probabilities_have_no_calibration_error_and_bold_ones_do():
    rng = np.random.default_rng(0)
    score = rng.random(4000)
    label, once = (rng.random(4000) < score).astype(int), np.ones(4000, int)
    assert calibration_error(label, score, once) < 0.03
    assert calibration_error(label, (score > 0.5).astype(float), once) == pytest.approx(0.25, abs=0.02)
    assert sum(group["n"] for group in reliability(label, score)) == 4000


def test_a_slide_of_one_class_only_has_undefined_figures():
    figures = decision_figures(cohort(record("b", 0, 1.0)).records)
    assert figures["sensitivity"]["value"] is None
    assert figures["balanced_accuracy"]["value"] is None
    assert figures["specificity"]["n"] == 1


def test_dice_is_cut_at_the_shift():
    truth = np.array([[True, False], [False, False]])
    at = [count_pixels("s", MARGINS, truth, margins=True, cut=cut).confusion[0] for cut in (0.0, 3.0)]
    assert [table[0, 1] for table in at] == [1, 0]  # the false pixel at 2.0
