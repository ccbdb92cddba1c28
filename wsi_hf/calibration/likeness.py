"""What the calibration's slides look like together, and from where on a slide is unlike any of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from wsi_hf.calibration.measuring import SlideMeasure
from wsi_hf.segmentation.calibration import Likeness

SLACK = 1.5
"""Distances up to this many times the largest that was seen among the calibration's own slides pass."""
LEAST_DEVIATION = 0.02
"""Of a feature, as a share of its mean: slides of one scanner and one day must not make the next day strange."""


def likeness_of(slides: Sequence[SlideMeasure]) -> Likeness | None:
    """Sum up the looks of slides; None with fewer than five.

    The limit is 1.5 times the largest distance of a slide from all others. How often slides of the same kind are warned
    of is measured by leaving out each slide, its limit set from the others.
    """
    looks = np.array([slide.looks for slide in slides if slide.looks is not None])
    if len(looks) < 5:
        return None
    limit, wrong = SLACK * _distances(looks).max(), 0
    for i in range(len(looks)):
        others = np.delete(looks, i, axis=0)
        wrong += _likeness(others).distance(looks[i]) > SLACK * _distances(others).max()
    whole = _likeness(looks)
    return replace(whole, limit=float(limit), false_alarms=wrong / len(looks))


def _likeness(looks: NDArray[np.float64]) -> Likeness:
    mean = looks.mean(axis=0)
    deviation = np.maximum(looks.std(axis=0, ddof=1), LEAST_DEVIATION * np.abs(mean) + 1e-6)
    precision = LedoitWolf().fit((looks - mean) / deviation).precision_  # shrunk: there are few slides
    return Likeness(mean.tolist(), deviation.tolist(), precision.tolist(), np.inf, 0.0, len(looks))


def _distances(looks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance of each slide from all the others, shape (n,)."""
    return np.array([_likeness(np.delete(looks, i, axis=0)).distance(looks[i]) for i in range(len(looks))])
