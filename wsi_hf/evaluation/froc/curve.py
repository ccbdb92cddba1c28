"""The FROC curve from what was found on each slide, for the cohort or for any resample of its slides."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per slide at which the challenge reads the curve."""
Convention = Literal["challenge", "release"]


@dataclass(frozen=True)
class SlideFindings:
    """What the detections of one slide come to.

    Attributes:
        malignant: whether the slide's mask holds tumour, be it isolated cells only.
        false_positives: scores of the detections that hit nothing, shape (n,).
        best_score: for each lesion label the score of its best detection; None for a missed lesion.
        itc_labels: labels of isolated tumour cells; they neither count nor cost.
    """

    malignant: bool
    false_positives: NDArray[np.float64]
    best_score: dict[int, float | None]
    itc_labels: tuple[int, ...] = ()

    @property
    def lesion_labels(self) -> tuple[int, ...]:
        return tuple(self.best_score)


@dataclass(frozen=True)
class FrocResult:
    """The curve, from (0, 0) towards lower thresholds, and the challenge's score.

    Attributes:
        false_positives_per_slide: ascending, shape (n_points,).
        sensitivity: share of lesions hit, shape (n_points,).
        thresholds: score at which each point is reached, descending from infinity, shape (n_points,).
        sensitivity_at: sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives a slide.
        average: mean of those six; NaN without lesions.
        n_slides: number of slides with a detection list.
        n_lesions: number of lesions on them, isolated tumour cells left out.
        lesions: findings of each slide.
        convention: "challenge" or "release".
        include_itc: whether isolated tumour cells were counted as lesions.
    """

    false_positives_per_slide: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    sensitivity_at: tuple[float, ...]
    average: float
    n_slides: int
    n_lesions: int
    lesions: dict[str, SlideFindings] = field(repr=False)
    convention: Convention = "challenge"
    include_itc: bool = False


def froc_curve(
    slides: dict[str, SlideFindings], convention: Convention = "challenge", include_itc: bool = False
) -> FrocResult:
    """Pool the findings of all slides into the curve and read it at the challenge's six rates."""
    pooled = PooledFindings(slides, convention)
    once = np.ones(len(slides), np.int64)
    rates, sensitivity, thresholds = pooled.curve(once)
    n_lesions = int(pooled.n_lesions.sum())
    if n_lesions == 0:
        warnings.warn("no slide has a lesion: sensitivity and FROC are undefined (NaN)", stacklevel=3)
    at = read_curve(rates, sensitivity, RATES, convention)
    return FrocResult(
        false_positives_per_slide=rates,
        sensitivity=sensitivity,
        thresholds=thresholds,
        sensitivity_at=tuple(at.tolist()),
        average=float(at.mean()),
        n_slides=len(slides),
        n_lesions=n_lesions,
        lesions=slides,
        convention=convention,
        include_itc=include_itc,
    )


def read_curve(
    false_positives_per_slide: NDArray[np.float64],
    sensitivity: NDArray[np.float64],
    rates: ArrayLike,
    convention: Convention,
) -> NDArray[np.float64]:
    """Read the sensitivity at given false positives per slide.

    The challenge interpolates linearly and extends the last point to the right; the release takes the first point that
    reaches the rate, or the last point.

    Args:
        false_positives_per_slide: ascending, shape (n_points,).
        sensitivity: shape (n_points,).
        rates: false positives per slide to read at, shape (n_rates,).
        convention: "challenge" or "release".
    """
    if convention == "challenge":
        return np.interp(np.asarray(rates), false_positives_per_slide, sensitivity)
    reached = np.searchsorted(false_positives_per_slide, rates, side="left")
    return sensitivity[np.minimum(reached, len(sensitivity) - 1)]


class PooledFindings:
    """The findings of all slides in one sorted list: the curve of any resample of slides is then two cumulative sums.

    Args:
        slides: findings of each slide.
        convention: "challenge" or "release".
    """

    def __init__(self, slides: Mapping[str, SlideFindings], convention: Convention) -> None:
        findings = list(slides.values())
        self.convention = convention
        self.malignant = np.array([slide.malignant for slide in findings])  # (n_slides,)
        self.n_lesions = np.array([len(slide.best_score) for slide in findings])  # (n_slides,)
        false = [slide.false_positives for slide in findings]
        hits = [[score for score in slide.best_score.values() if score is not None] for slide in findings]
        missed = self.n_lesions - [len(hit) for hit in hits] + [len(slide.itc_labels) for slide in findings]
        scores = np.concatenate([*false, *hits])
        self.missed_score = 0.0 if scores.min(initial=0.0) >= 0 else -np.inf
        # missed lesions and isolated tumour cells are never counted, but their score is one of the thresholds
        scores = np.concatenate([scores, np.full(missed.sum(), self.missed_score)])
        ascending, place = np.unique(scores, return_inverse=True)
        self.thresholds = ascending[::-1]  # distinct scores, descending
        self._place = len(ascending) - 1 - place
        counts = [[len(of_slide) for of_slide in false], [len(of_slide) for of_slide in hits], missed.tolist()]
        self._slide = np.concatenate([np.repeat(np.arange(len(findings)), count) for count in counts])
        self._false = slice(0, sum(counts[0]))
        self._hit = slice(self._false.stop, self._false.stop + sum(counts[1]))

    def curve(
        self, multiplicity: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Give the curve of a cohort that holds slide i `multiplicity[i]` times, shape (n_slides,).

        Returns:
            False positives per slide, sensitivity and thresholds, each of shape (n_points,), from (0, 0) on.
        """
        weight, n = multiplicity[self._slide].astype(float), len(self.thresholds)
        false = np.bincount(self._place[self._false], weight[self._false], n)
        hit = np.bincount(self._place[self._hit], weight[self._hit], n)
        present = np.flatnonzero(np.bincount(self._place, weight, n))
        if self.convention == "challenge":
            present = present[:-1]  # the smallest score is no threshold
        else:
            present = present[self.thresholds[present] != self.missed_score]
        n_lesions = int(multiplicity @ self.n_lesions)
        return (
            np.concatenate([[0.0], np.cumsum(false)[present]]) / multiplicity.sum(),
            np.concatenate([[0.0], np.cumsum(hit)[present]]) / (n_lesions or np.nan),
            np.concatenate([[np.inf], self.thresholds[present]]),
        )
