"""Slides' scores beside the paper's: the mean of the largest pixels, which a single odd pixel does not decide."""

import numpy as np

AREA_UM2 = 500.0
"""Of the pixels that are averaged: two or three tumour cells. Not in the paper."""


POOLED_UM2 = (0.0, AREA_UM2, 10_000.0)
"""How much of a slide a calibration may rest its verdict on: its best pixel, as the paper does; a few cells; a hundred
micrometres square, which a spurious spot seldom fills."""


class LargestMargins:
    """The largest margins of a slide, whose pixels are shown part by part.

    Args:
        mpp: um per pixel.
        area_um2: how much of the slide is kept, wherever it lies.
    """

    def __init__(self, mpp: float, area_um2: float = POOLED_UM2[-1]) -> None:
        self._mpp, self._count = mpp, max(1, round(area_um2 / mpp**2))
        self._largest = np.empty(0, np.float32)

    def add(self, margins: np.ndarray) -> None:
        """Take in pixels; those of -inf were not analysed."""
        lowest = self._largest.min() if len(self._largest) == self._count else -np.inf
        pixels = np.concatenate((self._largest, margins[margins > lowest]))
        self._largest = np.partition(pixels, -self._count)[-self._count :] if len(pixels) > self._count else pixels

    def mean(self, area_um2: float = AREA_UM2) -> float:
        """Of the largest that fill an area, at least of one, at most of those that are kept; -inf if there are none."""
        count = max(1, round(area_um2 / self._mpp**2))
        return float(np.sort(self._largest)[-count:].astype(np.float64).mean()) if len(self._largest) else -np.inf
