"""Pixel average precision and Dice over many slides, from the histograms of `pixel_counts`.

Pixels of equal rounded margin are ties of average precision. Dice uses the probabilities as they are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from wsi_hf.evaluation.blocks import MapLike
from wsi_hf.evaluation.bootstrap import percentile_interval, slide_resamples
from wsi_hf.evaluation.estimates import Estimate
from wsi_hf.evaluation.pixel_counts import N_CODES, PixelCounts, count_pixels


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
    """Dice of all slides together; NaN where none of them has a pixel of tumour, however much is predicted."""
    if not confusion[:, 1].any():
        return Estimate(np.nan, (np.nan, np.nan), n, counts)
    resampled = np.einsum("rs,stp->rtp", resamples, confusion)
    return Estimate(float(_dice(confusion.sum(axis=0))), percentile_interval(_dice(resampled)), n, counts)
