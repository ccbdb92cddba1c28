"""A slide's score beside the paper's: the mean of its largest pixels, which a single odd pixel does not decide."""

import numpy as np

from wsi_hf.evaluation.blocks import MapLike, read_block, row_blocks

AREA_UM2 = 500.0
"""Of the pixels that are averaged: two or three tumour cells. Not in the paper."""


def robust_margin(margins: MapLike, mpp: float, area_um2: float = AREA_UM2) -> float:
    """Average the largest margins of a slide.

    Args:
        margins: l1 - l0 of all pixels, shape (H, W); -inf where nothing was analysed.
        mpp: um per pixel.
        area_um2: how much of the slide is averaged, wherever it lies.

    Returns:
        The mean; -inf where nothing was analysed.
    """
    count = max(1, round(area_um2 / mpp**2))
    largest = np.empty(0, np.float32)
    for block in row_blocks(margins.shape):
        pixels = read_block(margins, block).ravel()
        pixels = np.concatenate((largest, pixels[pixels > -np.inf]))
        largest = np.partition(pixels, -count)[-count:] if len(pixels) > count else pixels
    return float(largest.astype(np.float64).mean()) if len(largest) else -np.inf
