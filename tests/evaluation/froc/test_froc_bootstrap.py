import time

import numpy as np
import pytest

from wsi_hf.evaluation.bootstrap import percentile_interval, slide_resamples
from wsi_hf.evaluation.froc.curve import PooledFindings, SlideFindings, froc_curve, read_curve
from wsi_hf.evaluation.froc.interval import froc_estimate, froc_interval


def findings(rng, n_lesions, n_false, n_itc=0):
    """Draw one slide's findings; scores have two digits, so that ties occur."""
    best = {i + 1: (round(rng.random(), 2) if rng.random() < 0.7 else None) for i in range(n_lesions)}
    itc = tuple(range(n_lesions + 1, n_lesions + n_itc + 1))
    return SlideFindings(n_lesions + n_itc > 0, rng.random(n_false).round(2), best, itc)


def cohort(seed, n_malignant=6, n_benign=8):
    rng = np.random.default_rng(seed)
    slides = [findings(rng, rng.integers(0, 4), rng.integers(0, 9), 1) for _ in range(n_malignant)]
    slides += [findings(rng, 0, rng.integers(0, 9)) for _ in range(n_benign)]
    return {f"slide_{i}": slide for i, slide in enumerate(slides)}


def test_resamples_keep_the_number_of_slides_of_each_label():
    labels = np.array([1, 0, 0, 1, 1])
    resamples = slide_resamples(labels, n_resamples=50, seed=1)
    assert resamples.shape == (50, 5)
    assert (resamples[:, labels == 1].sum(axis=1) == 3).all()
    assert (resamples[:, labels == 0].sum(axis=1) == 2).all()
    assert (resamples == slide_resamples(labels, 50, seed=1)).all()
    assert (resamples != slide_resamples(labels, 50, seed=2)).any()


def test_an_interval_leaves_out_undefined_values():
    assert percentile_interval([0.0, np.nan, 1.0]) == pytest.approx((0.025, 0.975))
    assert percentile_interval([np.nan]) is None
    assert percentile_interval([]) is None


@pytest.mark.parametrize("convention", ["challenge", "release"])
@pytest.mark.parametrize("seed", range(20))
def test_a_resample_is_the_cohort_with_its_slides_repeated(convention, seed):
    slides = cohort(seed)
    multiplicity = slide_resamples([slide.malignant for slide in slides.values()], 1, seed)[0]
    repeated = {
        f"{name}_{copy}": slide
        for (name, slide), times in zip(slides.items(), multiplicity, strict=True)
        for copy in range(times)
    }
    expected = froc_curve(repeated, convention)
    rates, sensitivity, thresholds = PooledFindings(slides, convention).curve(multiplicity)
    np.testing.assert_allclose(rates, expected.false_positives_per_slide, rtol=1e-12)
    np.testing.assert_allclose(sensitivity, expected.sensitivity, rtol=1e-12)
    assert (thresholds == expected.thresholds).all()
    at = read_curve(rates, sensitivity, [0.25, 0.5, 1, 2, 4, 8], convention)
    assert at.mean() == pytest.approx(expected.average)


def test_the_interval_holds_the_figure_and_is_the_same_with_the_same_seed():
    result = froc_curve(cohort(0))
    interval = froc_interval(result, n_resamples=300, seed=3)
    assert interval.ci95[0] <= result.average <= interval.ci95[1]
    assert interval.ci95 == froc_interval(result, n_resamples=300, seed=3).ci95
    assert interval.n_resamples == 300
    assert len(interval.sensitivity_at) == 6
    assert interval.band.shape == (2, len(interval.rates))
    assert (interval.band[0] <= interval.band[1]).all()


def test_the_interval_narrows_with_more_slides():
    few, many = (froc_interval(froc_curve(cohort(0, n, n)), 200).ci95 for n in (6, 60))
    assert many[1] - many[0] < few[1] - few[0]


@pytest.mark.filterwarnings("ignore:no slide has a lesion")
def test_resamples_without_a_lesion_are_left_out():
    slides = {"a": SlideFindings(True, np.zeros(0), {1: 0.9}), "b": SlideFindings(True, np.zeros(0), {}, (1,))}
    interval = froc_interval(froc_curve(slides), n_resamples=200)
    assert 100 < interval.n_resamples < 200
    nothing = froc_interval(froc_curve({"b": slides["b"]}), n_resamples=10)
    assert nothing.ci95 is None
    assert nothing.n_resamples == 0


def test_the_figure_for_metrics_names_its_n():
    result = froc_curve(cohort(0))
    figure = froc_estimate(result, froc_interval(result, 20)).to_json()
    assert set(figure) == {"value", "ci95", "n", "n_lesions"}
    assert (figure["n"], figure["n_lesions"]) == (14, result.n_lesions)


def test_two_thousand_resamples_of_the_whole_challenge_take_under_thirty_seconds():
    rng = np.random.default_rng(0)
    slides = {f"slide_{i}": findings(rng, 8 if i < 50 else 0, 770) for i in range(130)}
    slides = {name: SlideFindings(s.malignant, rng.random(770), s.best_score) for name, s in slides.items()}
    start = time.process_time()
    froc_interval(froc_curve(slides), n_resamples=200)
    assert time.process_time() - start < 3
