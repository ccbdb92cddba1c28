import json

import numpy as np
import pytest

from wsi_hf.evaluation.roc import delong_interval, roc_auc

LABELS = [0, 0, 1, 1]


def test_the_area_counts_pairs_in_order_and_ties_as_half():
    assert roc_auc(LABELS, [0.1, 0.2, 0.3, 0.4], 0).auc == 1.0
    assert roc_auc(LABELS, [0.4, 0.3, 0.2, 0.1], 0).auc == 0.0
    assert roc_auc(LABELS, [0.1, 0.3, 0.3, 0.4], 0).auc == pytest.approx(3.5 / 4)
    assert roc_auc(LABELS, [7, 7, 7, 7], 0).auc == 0.5


def test_scores_may_be_margins():
    scores = np.array([-30.0, -2.0, -5.0, 40.0])
    assert roc_auc(LABELS, scores, 0).auc == roc_auc(LABELS, scores + 100, 0).auc == 0.75


def test_the_curve_runs_from_corner_to_corner():
    result = roc_auc(LABELS, [0.1, 0.3, 0.2, 0.4], 50)
    assert (result.fpr[0], result.tpr[0], result.fpr[-1], result.tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(result.tpr, result.fpr) == pytest.approx(result.auc)
    assert result.band.shape == (2, len(result.band_fpr))
    assert (result.n, result.n_malignant, result.value) == (4, 2, result.auc)


def test_delong_is_the_variance_of_the_placements():
    # benign 1 2 3, malignant 2 4: placements (1.5/3, 3/3) and (2/2, 1.5/2, 1/2), AUC 0.75
    interval = delong_interval([0, 0, 0, 1, 1], [1, 2, 3, 2, 4])
    variance = np.var([0.5, 1.0], ddof=1) / 2 + np.var([1.0, 0.75, 0.5], ddof=1) / 3
    assert interval == pytest.approx((0.75 - 1.959964 * variance**0.5, 1.0))


def test_delong_agrees_with_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(0)
    labels = np.arange(129) < 49
    draws = [roc_auc(labels, rng.normal(labels * 1.2, 1), 0) for _ in range(300)]
    spread = np.std([draw.auc for draw in draws])
    width = np.mean([draw.ci95_delong[1] - draw.ci95_delong[0] for draw in draws])
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_bootstrap_and_delong_agree_on_an_ordinary_cohort():
    rng = np.random.default_rng(1)
    labels = np.arange(129) < 49
    result = roc_auc(labels, rng.normal(labels * 1.2, 1))
    assert result.ci95 == pytest.approx(result.ci95_delong, abs=0.02)
    assert result.ci95[0] < result.auc < result.ci95[1]
    assert 0.1 < result.ci95[1] - result.ci95[0] < 0.25  # 129 slides: about +-0.07


def test_the_bootstrap_treats_ties_as_the_area_does():
    labels, scores = [0, 0, 0, 1, 1, 1], [1, 2, 2, 2, 2, 3]
    result = roc_auc(labels, scores, 4000)
    rng = np.random.default_rng(0)
    values = [
        np.mean((m[:, None] > b) + 0.5 * (m[:, None] == b))
        for m, b in ((rng.choice([2, 2, 3], 3), rng.choice([1, 2, 2], 3)) for _ in range(4000))
    ]
    assert result.ci95 == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.06)


def test_the_seed_decides_the_interval():
    scores = [0.1, 0.5, 0.4, 0.8]
    assert roc_auc(LABELS, scores, 100, seed=1).ci95 == roc_auc(LABELS, scores, 100, seed=1).ci95


def test_one_class_alone_gives_nan_and_a_warning():
    with pytest.warns(UserWarning, match="all 3 slides have the same label"):
        result = roc_auc([1, 1, 1], [0.1, 0.2, 0.3])
    assert np.isnan(result.auc)
    assert result.ci95 is None
    assert json.dumps(result.estimate().to_json()) == '{"value": null, "ci95": null, "n": 3, "n_malignant": 3}'


def test_one_slide_of_a_class_has_no_delong_interval():
    assert roc_auc([0, 0, 1], [1, 2, 3], 10).ci95_delong is None


@pytest.mark.parametrize(
    ("labels", "scores", "reason"),
    [
        ([0, 1], [0.5], "same length"),
        ([0, 2], [0.5, 0.6], "0 .benign. or 1 .malignant."),
        ([0, 1], [0.5, np.nan], "slide number 1 is NaN"),
    ],
)
def test_bad_input_is_refused(labels, scores, reason):
    with pytest.raises(ValueError, match=reason):
        roc_auc(labels, scores)
