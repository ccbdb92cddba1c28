"""What a model says of slides, not how it ranks them: right and wrong verdicts, false lesions, honest probabilities."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_hf.calibration.intervals import share_interval
from wsi_hf.evaluation.bootstrap import percentile_interval, slide_resamples
from wsi_hf.evaluation.estimates import Estimate
from wsi_hf.evaluation.records import SlideRecord

COUNTED_UM2 = 500.0
"""Lesions of more than this are expected to be found: two or three tumour cells."""
SLIDES_PER_GROUP = 20
"""Of the reliability diagram, where there are enough for five groups."""


def decision_figures(records: Mapping[str, SlideRecord]) -> dict[str, dict[str, Any]]:
    """Judge the verdicts at the operating point, P = 0.5.

    Returns:
        `sensitivity`, `specificity`, `balanced_accuracy`, `calibration_error` (expected, of the slides' probabilities),
        `false_lesions` (a benign slide), `lesions_found` (of more than 500 um2), each with value, ci95 and n; and under
        "decision" whether the model is calibrated, the confusion table and the reliability diagram.
    """
    slides = list(records.values())
    label = np.array([slide.label for slide in slides])
    score = np.array([slide.score for slide in slides])
    resamples = slide_resamples(label)
    figures = {
        "sensitivity": _share((score >= 0.5)[label == 1]).to_json(),
        "specificity": _share((score < 0.5)[label == 0]).to_json(),
        "balanced_accuracy": _resampled(label, resamples, lambda n: _balanced(label, score >= 0.5, n)).to_json(),
        "calibration_error": _resampled(label, resamples, lambda n: calibration_error(label, score, n)).to_json(),
        "false_lesions": _false_lesions(slides).to_json(),
        "lesions_found": _lesions_found(slides).to_json(),
    }
    return figures | {"decision": _facts(slides, label, score)}


def reliability(label: NDArray[np.int64], score: NDArray[np.float64]) -> list[dict[str, float]]:
    """Up to ten groups of slides by their probability, of nearly equal size: mean probability, share malignant, n."""
    few = max(1, min(5, len(score) // 4))
    groups = np.array_split(np.argsort(score, kind="stable"), int(np.clip(len(score) // SLIDES_PER_GROUP, few, 10)))
    return [{"score": float(score[g].mean()), "malignant": float(label[g].mean()), "n": len(g)} for g in groups]


def calibration_error(label: NDArray[np.int64], score: NDArray[np.float64], times: NDArray[np.int64]) -> float:
    """The expected calibration error: the mean distance between probability and share malignant over groups of slides.

    Args:
        label, score: of the slides, shape (n,).
        times: how often each slide counts, shape (n,).
    """
    taken = np.repeat(np.arange(len(score)), times)
    groups = reliability(label[taken], score[taken])
    return sum(abs(g["score"] - g["malignant"]) * g["n"] for g in groups) / len(taken)


def _share(right: NDArray[np.bool_]) -> Estimate:
    hits, n = int(right.sum()), len(right)
    return Estimate(hits / n, share_interval(hits, n), n) if n else Estimate(np.nan, None, 0)


def _balanced(label: NDArray[np.int64], called: NDArray[np.bool_], times: NDArray[np.int64]) -> float:
    right = times * (called == label)
    if len(np.unique(label)) < 2:
        return np.nan
    return float(np.mean([right[label == kind].sum() / times[label == kind].sum() for kind in (0, 1)]))


def _resampled(
    label: NDArray[np.int64], resamples: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], float]
) -> Estimate:
    interval = percentile_interval([figure(times) for times in resamples[:500]])
    return Estimate(figure(np.ones(len(label), np.int64)), interval, len(label))


def _false_lesions(slides: list[SlideRecord]) -> Estimate:
    """Lesions outlined on benign slides, a slide."""
    counts = np.array([len(slide.lesions_um2) for slide in slides if not slide.label])
    if not len(counts):
        return Estimate(np.nan, None, 0)
    resampled = slide_resamples(np.zeros(len(counts), int)) @ counts / len(counts)
    more = {"median": float(np.median(counts)), "largest": int(counts.max()), "n_lesions": int(counts.sum())}
    return Estimate(float(counts.mean()), percentile_interval(resampled), len(counts), more)


def _lesions_found(slides: list[SlideRecord]) -> Estimate:
    """Share of the annotated lesions of more than 500 um2 that an outlined one touches."""
    found = [[hit for area, hit in slide.truth_um2 if area > COUNTED_UM2] for slide in slides]
    found = [hits for hits in found if hits]
    if not found:
        return Estimate(np.nan, None, 0, {"n_lesions": 0})
    hits, n = np.array([sum(h) for h in found]), np.array([len(h) for h in found])
    resamples = slide_resamples(np.zeros(len(n), int))
    interval = percentile_interval((resamples @ hits) / (resamples @ n))
    return Estimate(float(hits.sum() / n.sum()), interval, len(n), {"n_lesions": int(n.sum())})


def _facts(slides: list[SlideRecord], label: NDArray[np.int64], score: NDArray[np.float64]) -> dict[str, Any]:
    called = score >= 0.5
    return {
        "calibrated": all(slide.slide_probability is not None for slide in slides),
        "confusion": {
            f"{truth}_called_{verdict}": int(((label == i) & (called == j)).sum())
            for i, truth in enumerate(("benign", "malignant"))
            for j, verdict in enumerate(("benign", "malignant"))
        },
        "reliability": reliability(label, score),
        "unlike_the_calibration": sum(any(w.startswith("unlike") for w in slide.warnings) for slide in slides),
    }
