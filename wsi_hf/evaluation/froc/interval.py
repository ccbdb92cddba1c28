"""Confidence intervals for FROC: a percentile bootstrap over slides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_hf.evaluation.bootstrap import percentile_interval, slide_resamples
from wsi_hf.evaluation.estimates import Estimate
from wsi_hf.evaluation.froc.curve import RATES, FrocResult, PooledFindings, read_curve


@dataclass(frozen=True)
class FrocInterval:
    """What a bootstrap over slides says about a FROC curve.

    Attributes:
        ci95: interval of the average sensitivity; None where no resample has a lesion.
        sensitivity_at: interval at each of the challenge's six rates.
        rates: false positives per slide of the band, shape (n,).
        band: lower and upper sensitivity, pointwise 95 %, shape (2, n).
        n_resamples: number of resamples with at least one lesion.
    """

    ci95: tuple[float, float] | None
    sensitivity_at: tuple[tuple[float, float] | None, ...]
    rates: NDArray[np.float64]
    band: NDArray[np.float64]
    n_resamples: int


def froc_interval(result: FrocResult, n_resamples: int = 2000, seed: int = 0) -> FrocInterval:
    """Resample whole slides, malignant and benign ones apart, and read each resample's curve.

    Every resample obeys all rules of `froc`: a slide drawn twice counts as two slides.

    Args:
        result: what `froc` returned.
        n_resamples: number of resamples.
        seed: the same seed gives the same interval.
    """
    pooled = PooledFindings(result.lesions, result.convention)
    band_rates = np.concatenate([np.linspace(0, 1, 41)[:-1], np.linspace(1, 8, 57)])
    at = np.concatenate([RATES, band_rates])
    curves = [
        read_curve(*pooled.curve(multiplicity)[:2], at, result.convention)
        for multiplicity in slide_resamples(pooled.malignant, n_resamples, seed)
    ]
    sensitivity = np.array(curves).reshape(-1, len(at))
    sensitivity = sensitivity[~np.isnan(sensitivity).any(axis=1)]  # (n_resamples with a lesion, 6 + n)
    at_six, band = sensitivity[:, : len(RATES)], sensitivity[:, len(RATES) :]
    return FrocInterval(
        ci95=percentile_interval(at_six.mean(axis=1)),
        sensitivity_at=tuple(percentile_interval(column) for column in at_six.T),
        rates=band_rates,
        band=np.percentile(band, [2.5, 97.5], axis=0) if len(band) else np.full((2, len(band_rates)), np.nan),
        n_resamples=len(sensitivity),
    )


def froc_estimate(result: FrocResult, interval: FrocInterval | None = None) -> Estimate:
    """Give the average sensitivity with its interval and its n, ready for metrics.json."""
    return Estimate(
        result.average, interval.ci95 if interval else None, result.n_slides, {"n_lesions": result.n_lesions}
    )
