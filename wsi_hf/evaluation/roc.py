"""Slide-level ROC: the area under the curve with two kinds of confidence interval."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score, roc_curve

from wsi_hf.evaluation.bootstrap import percentile_interval, slide_resamples
from wsi_hf.evaluation.estimates import Estimate


@dataclass(frozen=True)
class RocResult:
    """A ROC curve over slides.

    Attributes:
        auc: area under the curve; ties count half. NaN where one class is missing.
        ci95: percentile bootstrap over slides, stratified by label.
        ci95_delong: normal interval with DeLong's variance, cut at 0 and 1; None with fewer than two slides of a class.
        n: number of slides.
        n_malignant: how many of them are malignant.
        fpr: false positive rate, from 0 to 1, shape (n_points,).
        tpr: true positive rate, shape (n_points,).
        band_fpr: false positive rates of the band, shape (n,).
        band: lower and upper true positive rate, pointwise 95 % of the bootstrap, shape (2, n).
    """

    auc: float
    ci95: tuple[float, float] | None
    ci95_delong: tuple[float, float] | None
    n: int
    n_malignant: int
    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    band_fpr: NDArray[np.float64]
    band: NDArray[np.float64]

    @property
    def value(self) -> float:
        return self.auc

    def estimate(self) -> Estimate:
        """Give the figure for metrics.json."""
        return Estimate(self.auc, self.ci95, self.n, {"n_malignant": self.n_malignant})


def roc_auc(labels: ArrayLike, scores: ArrayLike, n_resamples: int = 2000, seed: int = 0) -> RocResult:
    """Rank slides by score and compare with their labels.

    With slides of one class only the area is undefined: NaN, said in a warning, as for a training run's first small
    validation set.

    Args:
        labels: 0 = benign, 1 = malignant, shape (n,).
        scores: any finite reals, larger = more malignant, shape (n,). Logit margins rank better than probabilities,
            which saturate at 1.
        n_resamples: bootstrap resamples; 0 leaves out that interval.
        seed: the same seed gives the same interval.
    """
    malignant, score = _check(labels, scores)
    n, n_malignant = len(score), int(malignant.sum())
    grid = np.linspace(0, 1, 101)
    if n_malignant in (0, n):
        warnings.warn(f"all {n} slides have the same label: the AUC is undefined (NaN)", stacklevel=2)
        empty, undefined = np.zeros(0), np.full((2, len(grid)), np.nan)
        return RocResult(np.nan, None, None, n, n_malignant, empty, empty, grid, undefined)
    auc = float(roc_auc_score(malignant, score))
    fpr, tpr, _ = roc_curve(malignant, score, drop_intermediate=False)
    areas, curves = _resampled(malignant, score, slide_resamples(malignant, n_resamples, seed), grid)
    band = np.percentile(curves, [2.5, 97.5], axis=0) if n_resamples else np.full((2, len(grid)), np.nan)
    interval = percentile_interval(areas)
    return RocResult(auc, interval, delong_interval(malignant, score), n, n_malignant, fpr, tpr, grid, band)


def delong_interval(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float] | None:
    """Compute a 95 % interval of the AUC from the variance of its placement values.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837-845; the placements from midranks as in Sun and Xu, IEEE
    Signal Processing Letters 21 (2014) 1389-1393. A perfect AUC has variance 0 and an interval without width: see the
    bootstrap's limits too, and mistrust both at small n.

    Args:
        labels: 0 = benign, 1 = malignant, shape (n,).
        scores: shape (n,).

    Returns:
        The interval, cut at 0 and 1, or None with fewer than two slides of a class.
    """
    malignant, score = _check(labels, scores)
    m, k = int(malignant.sum()), int((~malignant).sum())
    if min(m, k) < 2:
        return None
    rank = rankdata(score)
    of_malignant = (rank[malignant] - rankdata(score[malignant])) / k  # share of benign slides below each malignant one
    of_benign = (
        1 - (rank[~malignant] - rankdata(score[~malignant])) / m
    )  # share of malignant slides above each benign one
    auc = of_malignant.mean()
    half_width = 1.959963984540054 * np.sqrt(of_malignant.var(ddof=1) / m + of_benign.var(ddof=1) / k)
    return float(max(0.0, auc - half_width)), float(min(1.0, auc + half_width))


def _resampled(
    malignant: NDArray[np.bool_], score: NDArray[np.float64], resamples: NDArray[np.int64], grid: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute area (n_resamples,) and curve on `grid` (n_resamples, n) of every resample."""
    _, place = np.unique(-score, return_inverse=True)  # tied slides share a place
    areas, curves = np.zeros(len(resamples)), np.zeros((len(resamples), len(grid)))
    for i, multiplicity in enumerate(resamples):
        above = np.cumsum(np.bincount(place, multiplicity * malignant))
        false = np.cumsum(np.bincount(place, multiplicity * ~malignant))
        tpr = np.concatenate([[0.0], above / above[-1]])
        fpr = np.concatenate([[0.0], false / false[-1]])
        areas[i] = np.trapezoid(tpr, fpr)
        curves[i] = np.interp(grid, fpr, tpr)
    return areas, curves


def _check(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    label, score = np.asarray(labels), np.asarray(scores, np.float64)
    if label.ndim != 1 or label.shape != score.shape:
        raise ValueError(f"labels and scores are lists of the same length, not {label.shape} and {score.shape}")
    if not np.isin(label, (0, 1)).all():
        raise ValueError(f"labels are 0 (benign) or 1 (malignant), not {sorted(set(label.tolist()))[:5]}")
    if not np.isfinite(score).all():
        raise ValueError(f"the score of slide number {int(np.flatnonzero(~np.isfinite(score))[0])} is NaN or infinite")
    return label.astype(bool), score
