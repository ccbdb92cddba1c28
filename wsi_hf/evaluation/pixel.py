"""Pixel average precision and Dice over many slides, in memory that grows with neither slides' pixels nor their number.

Every slide is read once, a band of rows at a time, into a histogram over its logit margins, log(p / (1 - p)), rounded
to float16: at most 65,536 distinct scores with 11 significant bits, as fine near 0 and 1 as in the middle. Average
precision is computed from the histograms: pixels of equal rounded margin are ties. Dice uses the probabilities as they
are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from wsi_hf.evaluation.blocks import MapLike, read_block, row_blocks
from wsi_hf.evaluation.bootstrap import percentile_interval, slide_resamples
from wsi_hf.evaluation.estimates import Estimate
from wsi_hf.evaluation.froc.lesions import grow

N_CODES = 2**16


@dataclass(frozen=True)
class PixelFigures:
    """The figures of one slide; NaN: average precision without tumour, Dice without tumour, true or predicted."""

    average_precision: float
    dice: float
    n_pixels: int
    n_tumour_pixels: int


@dataclass(frozen=True)
class PixelResult:
    """Pixel figures over a cohort, intervals by bootstrap over slides.

    Attributes:
        average_precision: pooled over all pixels of all slides.
        dice: 2 TP / (2 TP + FP + FN), pooled likewise, at the threshold.
        dice_malignant: the same over the pixels of slides with tumour only.
        slides: figures of each slide.
        outside_band: all of this without the ignored pixels; None where no slide has any.
    """

    average_precision: Estimate
    dice: Estimate
    dice_malignant: Estimate
    slides: dict[str, PixelFigures]
    outside_band: "PixelResult | None" = None


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


class PixelScores:
    """Collects slides one at a time; `result` pools them.

    Args:
        threshold: a pixel with at least this probability is predicted malignant.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self._slides: dict[str, PixelCounts] = {}

    def add(self, slide_id: str, probabilities: MapLike, truth: MapLike, ignore: MapLike | None = None) -> None:
        """Read one slide; arguments as for `count_pixels`."""
        self.take(slide_id, count_pixels(slide_id, probabilities, truth, ignore, self.threshold))

    def take(self, slide_id: str, counts: PixelCounts) -> None:
        """Take in a slide that has been counted; a slide is taken once."""
        if slide_id in self._slides:
            raise ValueError(f"{slide_id} has been added already")
        self._slides[slide_id] = counts

    def result(self, n_resamples: int = 2000, seed: int = 0) -> PixelResult:
        """Pool all slides added so far.

        Args:
            n_resamples: bootstrap resamples of slides, stratified by whether a slide holds tumour.
            seed: the same seed gives the same intervals.
        """
        if not self._slides:
            raise ValueError("no slide has been added")
        everywhere = _pool(self._slides, False, n_resamples, seed)
        if not any(slide.confusion[1].any() for slide in self._slides.values()):
            return everywhere
        outside = _pool(self._slides, True, n_resamples, seed)
        return PixelResult(
            everywhere.average_precision, everywhere.dice, everywhere.dice_malignant, everywhere.slides, outside
        )


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


def _pool(slides: dict[str, PixelCounts], leave_out_band: bool, n_resamples: int, seed: int) -> PixelResult:
    confusion = np.stack(
        [slide.confusion[0] if leave_out_band else slide.confusion.sum(axis=0) for slide in slides.values()]
    )  # (n_slides, tumour, predicted)
    histograms = _dense_histograms(list(slides.values()), leave_out_band)  # (n_slides, tumour, code), codes descending
    malignant = np.array([slide.confusion[:, 1].any() for slide in slides.values()])
    resamples = slide_resamples(malignant, n_resamples, seed)
    counts: dict[str, int | float] = {
        "n_pixels": int(confusion.sum()),
        "n_tumour_pixels": int(confusion[:, 1].sum()),
        "n_malignant": int(malignant.sum()),
    }
    precision = Estimate(
        _average_precision(histograms.sum(axis=0)),
        percentile_interval(_resampled_average_precision(histograms, resamples)),
        len(slides),
        counts,
    )
    only_malignant = confusion * malignant[:, None, None]
    return PixelResult(
        average_precision=precision,
        dice=_dice_estimate(confusion, resamples, len(slides), counts),
        dice_malignant=_dice_estimate(
            only_malignant, resamples, int(malignant.sum()), {"n_pixels": int(only_malignant.sum())}
        ),
        slides={
            slide_id: PixelFigures(
                _average_precision(histogram), float(_dice(table)), int(table.sum()), int(table[1].sum())
            )
            for slide_id, histogram, table in zip(slides, histograms, confusion, strict=True)
        },
    )


def _dense_histograms(slides: list[PixelCounts], leave_out_band: bool) -> NDArray[np.float64]:
    """Lay the slides' histograms side by side over the codes that occur, descending: (n_slides, 2, n_codes)."""
    occurring = np.unique(np.concatenate([slide.place % N_CODES for slide in slides]))[::-1]
    column = np.zeros(N_CODES, np.int64)
    column[occurring] = np.arange(len(occurring))
    dense = np.zeros((len(slides), 2, len(occurring)))
    for i, slide in enumerate(slides):
        keep = slide.place < 2 * N_CODES if leave_out_band else np.ones(len(slide.place), bool)
        kind, code = np.divmod(slide.place[keep], N_CODES)
        np.add.at(dense[i], (kind % 2, column[code]), slide.count[keep])
    return dense


def _average_precision(histogram: NDArray[np.float64]) -> float:
    """Compute average precision from benign and tumour pixels per score, scores descending, shape (2, n_codes)."""
    if not histogram[1].any():
        return float("nan")
    n_codes = histogram.shape[1]
    label, score = np.repeat([0, 1], n_codes), np.tile(np.arange(n_codes, 0, -1), 2)
    return float(average_precision_score(label, score, sample_weight=histogram.ravel()))


def _resampled_average_precision(histograms: NDArray[np.float64], resamples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute each resample's pooled average precision, the mean of precision over tumour pixels."""
    n_slides, _, n_codes = histograms.shape
    flat, values = histograms.reshape(n_slides, 2 * n_codes), []
    for chunk in np.array_split(resamples, max(1, len(resamples) // 16)):
        pooled = (chunk @ flat).reshape(len(chunk), 2, n_codes)
        above = np.cumsum(pooled, axis=2)
        precision = above[:, 1] / np.maximum(above.sum(axis=1), 1)
        with np.errstate(invalid="ignore"):
            values.append((precision * pooled[:, 1]).sum(axis=1) / above[:, 1, -1])
    return np.concatenate(values)


def _dice(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute 2 TP / (2 TP + FP + FN) of (tumour, predicted) counts, shape (..., 2, 2)."""
    hit, wrong = confusion[..., 1, 1], confusion[..., 0, 1] + confusion[..., 1, 0]
    with np.errstate(invalid="ignore"):
        return 2 * hit / np.asarray(2 * hit + wrong, float)


def _dice_estimate(
    confusion: NDArray[np.int64], resamples: NDArray[np.int64], n: int, counts: dict[str, int | float]
) -> Estimate:
    resampled = np.einsum("rs,stp->rtp", resamples, confusion)
    return Estimate(float(_dice(confusion.sum(axis=0))), percentile_interval(_dice(resampled)), n, counts)


def _check_scores(score: np.ndarray, slide_id: str, margins: bool) -> None:
    if score.dtype.kind != "f":
        raise ValueError(f"{slide_id}: probabilities are floats in [0, 1], not {score.dtype}; divide 8-bit maps by 255")
    low, high = (-np.inf, np.finfo(np.float32).max) if margins else (0, 1)
    if score.size and not (score.min() >= low and score.max() <= high):  # NaN fails too
        what = "margins must be finite" if margins else "probabilities must lie in [0, 1]"
        raise ValueError(f"{slide_id}: {what}; found {score.min()} to {score.max()}")
