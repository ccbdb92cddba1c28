"""The operating points of slides and pixels, from literal margins and counts."""

import numpy as np
import pytest

from wsi_hf.calibration.calibrating import pixel_temperature
from wsi_hf.calibration.lesion_limit import limit_lesions
from wsi_hf.calibration.likeness import likeness_of
from wsi_hf.calibration.measuring import SlideMeasure
from wsi_hf.calibration.slide_decision import decide_slides, fit
from wsi_hf.segmentation.calibration import Calibration, calibration_of


def margins_of(n: int, seed: int = 0) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """n + n slides whose margins lie at 10 and 20, 4 wide; overconfident: all of them far above 0."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    largest = np.where(labels, 20, 10) + rng.normal(0, 4, 2 * n)
    return labels, {0.0: largest, 500.0: largest - 0.5}


def slide(label: int, areas: dict[float, list[float]], looks: list[float] | None = None) -> SlideMeasure:
    return SlideMeasure("s", label, {0.0: max(areas, default=-9.0)}, 1.0, areas, looks)


def test_half_is_the_balanced_operating_point_and_probabilities_are_honest():
    decision = decide_slides(*margins_of(20))
    labels, margins = margins_of(500, seed=1)
    logits = decision.slope * margins[0.0] + decision.bias
    assert decision.area_um2 == 0  # the paper's, unless another is better for sure
    assert (logits[labels == 1] >= 0).mean() > 0.8
    assert (logits[labels == 0] < 0).mean() > 0.8
    middle = np.abs(logits) < 1
    assert labels[middle].mean() == pytest.approx((1 / (1 + np.exp(-logits[middle]))).mean(), abs=0.12)


def test_classes_weigh_the_same_whatever_their_numbers():
    labels, margins = margins_of(400)
    few = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:100]])
    slope, bias = fit(labels[few], margins[0.0][few])
    assert -bias / slope == pytest.approx(15, abs=1)


def test_separated_classes_have_a_finite_slope():
    margins = np.array([1.0, 2, 3, 4, 30, 31, 32, 33])
    assert 0 < decide_slides(np.repeat([0, 1], 4), {0.0: margins}).slope < 1


def test_the_robust_mean_is_taken_where_single_pixels_mislead():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 30)
    robust = np.where(labels, 20, 10) + rng.normal(0, 2, 60)
    margins = {0.0: robust + rng.exponential(20, 60), 500.0: robust}
    assert decide_slides(labels, margins).area_um2 == 500


def test_a_pixel_fades_as_its_slide_does_unless_benign_tissue_would_glow():
    def of(label: int, tissue: list[float]) -> SlideMeasure:
        return SlideMeasure("s", label, {0.0: 9.0}, 1.0, {}, None, tissue)

    dark, pale, malignant = of(0, [-30.0] * 20), of(0, [-2.0] * 20), of(1, [5.0] * 20)
    assert pixel_temperature([dark, malignant], slope=0.25, shift=0.0) == 4
    fast = pixel_temperature([pale, malignant], slope=0.25, shift=0.0)
    assert 1 / (1 + np.exp(2 / fast)) == pytest.approx(0.05, abs=0.01)
    assert pixel_temperature([malignant], slope=0.25, shift=0.0) == 4  # nothing benign was analysed


@pytest.mark.parametrize("rule", ["sensitivity", "specificity"])
def test_a_rule_is_kept_on_further_slides(rule):
    rates = []
    for seed in range(20):
        decision = decide_slides(*margins_of(40, seed), rule, 0.9)
        labels, margins = margins_of(200, 1000 + seed)
        logits = decision.slope * margins[0.0] + decision.bias
        rates.append((logits[labels == 1] >= 0).mean() if rule == "sensitivity" else (logits[labels == 0] < 0).mean())
    assert np.mean(rates) >= 0.9 - 0.02


def test_a_rule_that_few_slides_cannot_promise_says_so():
    note = decide_slides(*margins_of(10), "sensitivity", 0.95).note
    assert "cannot be promised with 10 slides, it takes 19" in note


@pytest.mark.parametrize(
    ("labels", "margins", "reason"),
    [([0, 0, 1, 1], [5, 5, 5, 5], "all slides are equal"), ([0, 0, 1, 1], [7, 8, 1, 2], "do not have larger margins")],
)
def test_margins_that_tell_nothing_are_refused(labels, margins, reason):
    with pytest.raises(ValueError, match=reason):
        decide_slides(np.array(labels), {0.0: np.array(margins, float)})


def test_benign_slides_set_the_lowest_threshold_that_keeps_the_bound():
    noisy = [slide(0, {t: [150.0] for t in np.arange(9.5, -4.5, -0.5)}) for _ in range(3)]
    clean = [slide(0, {t: [150.0] for t in np.arange(3.5, -4.5, -0.5)}) for _ in range(17)]
    malignant = [slide(1, {t: [900.0] for t in np.arange(15, -4.5, -0.5)}) for _ in range(20)]
    limit = limit_lesions([*noisy, *clean, *malignant], wanted=0.25)
    assert (limit.shift, limit.smallest_um2, limit.met) == (4.0, 100, True)  # 3 of 20 may, (3 + 2) / 21 <= 0.25
    assert limit.bound == pytest.approx(5 / 21)
    strict = limit_lesions([*noisy, *clean, *malignant], wanted=0.05)
    assert (strict.shift, strict.met, strict.kept) == (10.0, True, 1.0)


def test_a_smallest_area_saves_malignant_slides_whose_margins_benign_specks_reach():
    benign = [slide(0, {t: [120.0] for t in np.arange(20, -4.5, -1.0)}) for _ in range(20)]
    malignant = [slide(1, {t: [900.0] for t in np.arange(12, -4.5, -0.5)}) for _ in range(20)]
    limit = limit_lesions([*benign, *malignant])
    assert (limit.smallest_um2, limit.kept, limit.shift) == (200, 1.0, 0.0)


def test_the_bound_holds_on_further_benign_slides():
    rng, means = np.random.default_rng(0), []

    def benign() -> SlideMeasure:
        top = float(np.round(rng.normal(5, 3) * 2) / 2)
        return slide(0, {float(t): [150.0] * rng.integers(1, 3) for t in np.arange(top, -4.5, -0.5)})

    malignant = [slide(1, {15.0: [900.0]}) for _ in range(5)]
    for _ in range(40):
        limit = limit_lesions([*(benign() for _ in range(20)), *malignant])
        means.append(np.mean([s.margin >= limit.shift for s in (benign() for _ in range(50))]))
    assert np.mean(means) <= 0.25


def test_slides_of_another_kind_are_far_away():
    rng = np.random.default_rng(0)
    slides = [slide(0, {}, rng.normal(1, 0.1, 11).tolist()) for _ in range(20)]
    likeness = likeness_of(slides)
    assert likeness.false_alarms <= 0.1
    assert likeness.distance(rng.normal(1, 0.1, 11)) < likeness.limit < likeness.distance(rng.normal(2, 0.1, 11))


def test_a_calibration_travels_as_json_and_is_refused_when_it_cannot_be_meant():
    calibration = Calibration(0.0, 0.3, -3.0, 3.0, 9.0, 100.0, "balanced accuracy", 20, 20)
    config = type("Config", (), {"calibration": calibration.to_config()})
    assert calibration_of(config) == calibration
    assert calibration.slide_probability({0.0: 10.0}) == 0.5
    for change, reason in (
        ({"version": 2}, "version 2"),
        ({"slide": {"area_um2": 0, "slope": -1, "bias": 0}}, "does not rise"),
        ({"slide": {"area_um2": 7, "slope": 1, "bias": 0}}, "rests on 7"),
        ({"pixels": {"temperature": 0, "shift": 0, "smallest_um2": 1}}, "does not rise"),
        ({"slide": {"area_um2": 0, "slope": float("nan"), "bias": 0}}, "numbers"),
        ({"pixels": None}, "cannot be read"),
    ):
        config.calibration = calibration.to_config() | change
        with pytest.raises(ValueError, match=reason):
            calibration_of(config)
