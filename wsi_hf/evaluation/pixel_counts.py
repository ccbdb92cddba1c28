"""The pixels of a slide, counted once: in memory that does not grow with the slide.

A slide is read a band of rows at a time into a histogram over its logit margins, log(p / (1 - p)), rounded to float16:
at most 65,536 distinct scores with 11 significant bits, as fine near 0 and 1 as in the middle.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_hf.evaluation.blocks import MapLike, read_block, row_blocks
from wsi_hf.evaluation.froc.lesions import grow

N_CODES = 2**16


@dataclass(frozen=True)
class PixelCounts:
    """The pixels of one slide, counted.

    Attributes:
        place: the bins of (ignored, tumour, code) that hold any, shape (n,).
        count: pixels in each, shape (n,).
        confusion: pixels by (ignored, tumour, predicted), shape (2, 2, 2).
    """

    place: NDArray[np.int32]
    count: NDArray[np.int64]
    confusion: NDArray[np.int64]


def count_pixels(
    slide_id: str,
    scores: MapLike,
    truth: MapLike,
    ignore: MapLike | None = None,
    threshold: float = 0.5,
    margins: bool = False,
    cut: float = 0.0,
) -> PixelCounts:
    """Read one slide.

    Args:
        slide_id: its name, for messages.
        scores: P(malignant), floats in [0, 1], 0 where a pixel was not analysed, shape (H, W); or with `margins` the
            logit margins l1 - l0, -inf where not analysed.
        truth: True where there is tumour, shape (H, W).
        ignore: True in the outlines' uncertainty band (see `outline_band`), shape (H, W).
        threshold: a pixel with at least this probability is predicted malignant, with `margins` one of at least `cut`.
    """
    for name, other in (("truth", truth), ("ignore", ignore)):
        if other is not None and tuple(other.shape) != tuple(scores.shape):
            raise ValueError(f"{slide_id}: {name} has shape {other.shape}, the map {scores.shape}")
    histogram, confusion = np.zeros(4 * N_CODES, np.int64), np.zeros(8, np.int64)
    lowest, least = (-np.inf, cut) if margins else (0.0, threshold)
    for block in row_blocks(tuple(scores.shape)):
        score = read_block(scores, block)
        _check_scores(score, slide_id, margins)
        kind = read_block(truth, block).astype(np.uint8)  # 0 benign, 1 tumour, + 2 where ignored
        if ignore is not None:
            kind += 2 * read_block(ignore, block).astype(np.uint8)
        confusion += np.bincount((2 * kind + (score >= least)).ravel(), minlength=8)
        seen = score > lowest
        histogram[::N_CODES] += np.bincount(kind[~seen], minlength=4)  # code 0: not analysed
        codes = rounded_codes(score[seen]) if margins else margin_codes(score[seen])
        histogram += np.bincount(kind[seen].astype(np.int32) * N_CODES + codes, minlength=4 * N_CODES)
    place = np.flatnonzero(histogram)
    return PixelCounts(place.astype(np.int32), histogram[place], confusion.reshape(2, 2, 2))


def outline_band(truth: np.ndarray, band_um: float, mpp: float) -> NDArray[np.bool_]:
    """Mark the pixels near an outline: those with a pixel of the other class nearer than `band_um`, shape (H, W)."""
    tumour = np.asarray(truth, bool)
    return grow(tumour, band_um / mpp) & grow(~tumour, band_um / mpp)


def margin_codes(probabilities: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Rank probabilities by their logit margin, rounded to float16: a larger margin has a larger code, p = 0 has 0."""
    with np.errstate(divide="ignore"):
        margin = np.log(probabilities) - np.log1p(-probabilities)
    return np.where(probabilities > 0, rounded_codes(margin), 0).astype(np.uint16)


def rounded_codes(margins: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Rank finite margins, rounded to float16: a larger one has a larger code, from 1 on."""
    with np.errstate(over="ignore"):
        bits = (margins.astype(np.float16) + np.float16(0)).view(np.uint16)  # + 0 turns -0 into 0
    return np.where(bits & 0x8000, ~bits, bits | 0x8000)


def _check_scores(score: np.ndarray, slide_id: str, margins: bool) -> None:
    if score.dtype.kind != "f":
        raise ValueError(f"{slide_id}: probabilities are floats in [0, 1], not {score.dtype}; divide 8-bit maps by 255")
    low, high = (-np.inf, np.finfo(np.float32).max) if margins else (0, 1)
    if score.size and not (score.min() >= low and score.max() <= high):  # NaN fails too
        what = "margins must be finite" if margins else "probabilities must lie in [0, 1]"
        raise ValueError(f"{slide_id}: {what}; found {score.min()} to {score.max()}")
