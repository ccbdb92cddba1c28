"""Resampling whole slides, within each label, for percentile intervals."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def slide_resamples(labels: ArrayLike, n_resamples: int = 2000, seed: int = 0) -> NDArray[np.int64]:
    """Draw how often each slide appears in each bootstrap resample.

    Slides are drawn with replacement within their own label, so that every resample has as many malignant and as many
    benign slides as the cohort.

    Args:
        labels: label of each slide, shape (n_slides,).
        n_resamples: number of resamples; 0 gives none.
        seed: the same seed gives the same resamples.

    Returns:
        Multiplicities, shape (n_resamples, n_slides); every row sums to n_slides.
    """
    of_slide = np.asarray(labels)
    rng = np.random.default_rng(seed)
    multiplicities = np.zeros((n_resamples, len(of_slide)), np.int64)
    for label in np.unique(of_slide):
        members = np.flatnonzero(of_slide == label)
        share = np.full(len(members), 1 / len(members))
        multiplicities[:, members] = rng.multinomial(len(members), share, size=n_resamples)
    return multiplicities


def percentile_interval(samples: ArrayLike) -> tuple[float, float] | None:
    """Span the middle 95 % of bootstrap values, shape (n_resamples,); undefined ones (NaN) are left out."""
    defined = np.asarray(samples, float)
    defined = defined[~np.isnan(defined)]
    if defined.size == 0:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
