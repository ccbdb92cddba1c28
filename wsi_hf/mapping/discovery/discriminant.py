"""What tells malignant slides' tissue apart, found from slide labels alone by a linear discriminant. Not in the paper.

Every window inherits its slide's label. Most labels of malignant slides are then wrong, but they are wrong in the same
way on both sides: the difference of the class means points from benign tissue to tumour however little tumour there is,
and thousands of windows leave little noise in it. A second fit keeps only those windows of malignant slides that hardly
any window of a benign slide resembles. A slide is always judged by fits that have not seen it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu
from threadpoolctl import threadpool_limits

from wsi_hf.mapping.discovery.tissue_kinds import LARGEST_Q, SIGNIFICANCE

FOLDS, FITS = 5, 2
KEPT = 0.4
"""For the second fit, windows of malignant slides are kept that score higher than all but this share of benign ones."""
FOUND = 0.01
"""Share of the benign slides' windows that pass for found; malignant slides must hold significantly more."""
FEWEST = 3
"""Windows that every malignant slide keeps."""
SHRINKAGE = 0.05
"""Of the covariance towards its diagonal."""


@dataclass(frozen=True)
class Moments:
    """Mean (F,) and mean outer product (F, F) of windows; a slide counts as much as any other."""

    mean: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, windows: np.ndarray) -> "Moments":
        wide = windows.astype(np.float64)
        return cls(wide.mean(0), wide.T @ wide / len(wide))

    @classmethod
    def together(cls, slides: list["Moments"]) -> "Moments":
        return cls(np.mean([s.mean for s in slides], axis=0), np.mean([s.square for s in slides], axis=0))

    @property
    def covariance(self) -> np.ndarray:
        return self.square - np.outer(self.mean, self.mean)


def malignancy(features: list[np.ndarray], labels: np.ndarray, seed: int) -> tuple[list[np.ndarray], int]:
    """How much more often windows that look like this, or more so, lie on malignant slides than on benign ones.

    Args:
        features: of the windows of each slide, (n, F); n may be 0.
        labels: 0 (benign) or 1 (malignant) of each slide, several of each.
        seed: of the folds.

    Returns:
        Q of each slide's windows, float32 (n,): m / (m + b) from the shares m and b of malignant and benign slides'
        windows that score no lower, if hardly any of a benign slide do, else 1/2. And 1 if malignant slides hold
        significantly more of these, else 0 and every Q is 1/2.
    """
    filled = [slide for slide, windows in enumerate(features) if len(windows)]
    q = [np.full(len(windows), 0.5, np.float32) for windows in features]
    with threadpool_limits(1):  # sums in another order are other sums
        first, scores = scores_of([features[slide] for slide in filled], labels[filled], seed)
    if not significant(first, labels[filled]):
        return q, 0
    benign, malignant = (_pooled(scores, labels[filled], label) for label in (0, 1))
    least = np.quantile(benign, 1 - FOUND)
    for slide, score in zip(filled, scores, strict=True):
        b, m = (1 - np.searchsorted(all_of, score) / len(all_of) for all_of in (benign, malignant))
        q[slide] = np.where(score > least, np.clip(m / np.maximum(m + b, 1e-12), 0.5, LARGEST_Q), 0.5).astype("f4")
        q[slide][(score > least) & (q[slide] == 0.5)] = np.nextafter(np.float32(0.5), np.float32(1))
    return q, 1


def significant(scores: list[np.ndarray], labels: np.ndarray) -> bool:
    """Whether malignant slides hold more windows than benign ones that score higher than nearly all benign ones."""
    least = np.quantile(_pooled(scores, labels, 0), 1 - FOUND)
    shares = np.array([np.mean(slide > least) for slide in scores])
    test = mannwhitneyu(shares[labels == 1], shares[labels == 0], alternative="greater")
    return bool(test.pvalue < SIGNIFICANCE)


def scores_of(features: list[np.ndarray], labels: np.ndarray, seed: int) -> list[list[np.ndarray]]:
    """The discriminant's verdict on each slide's windows, (n,), by fits on the other folds' slides alone.

    Of each fit in turn. Only the first can be tested: what the others keep has been chosen with the help of all labels.
    """
    folds = _folds(labels, seed)
    whole = [Moments.of(windows) for windows in features]
    kept, fits = whole, []
    for _ in range(FITS):
        scores: list[np.ndarray] = [np.zeros(0)] * len(features)
        for fold in range(FOLDS):
            others = [slide for slide in range(len(features)) if folds[slide] != fold]
            weights, usual = _fit([kept[s] for s in others if labels[s]], [whole[s] for s in others if not labels[s]])
            for slide in np.flatnonzero(folds == fold):
                scores[slide] = (features[slide] - usual) @ weights
        fits.append(scores)
        least = np.quantile(_pooled(scores, labels, 0), 1 - KEPT)
        kept = [
            Moments.of(windows[score >= min(least, np.sort(score)[-FEWEST:][0])]) if label else moments
            for windows, score, label, moments in zip(features, scores, labels, whole, strict=True)
        ]
    return fits


def _fit(malignant: list[Moments], benign: list[Moments]) -> tuple[np.ndarray, np.ndarray]:
    """The direction that tells the classes apart best, along which benign slides' windows have variance 1, and their
    mean; float32 (F,) each.
    """
    one, other = Moments.together(malignant), Moments.together(benign)
    covariance = (one.covariance + other.covariance) / 2
    variance = np.diag(covariance)
    shrunk = (1 - SHRINKAGE) * covariance + np.diag(SHRINKAGE * variance + 1e-9 * variance.mean() + 1e-12)
    weights = np.linalg.solve(shrunk, one.mean - other.mean)
    weights /= np.sqrt(weights @ other.covariance @ weights + 1e-12)
    return weights.astype(np.float32), other.mean.astype(np.float32)


def _folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """A fold for each slide, (slides,); both classes in each."""
    folds, rng = np.zeros(len(labels), int), np.random.default_rng([seed, 7])
    for label in (0, 1):
        folds[labels == label] = rng.permutation(np.arange((labels == label).sum()) % FOLDS)
    return folds


def _pooled(scores: list[np.ndarray], labels: np.ndarray, label: int) -> np.ndarray:
    """All windows' scores of a class, sorted."""
    return np.sort(np.concatenate([score for score, own in zip(scores, labels, strict=True) if own == label]))
