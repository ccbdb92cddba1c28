"""Localisation judged patch by patch, as papers on multiple instance learning do: beside FROC, never instead of it.

FocusMIL (Liu, Zhang and Zhang, arXiv 2408.09449) judges "patch-level classification" and "instance-level tumor region
localization" on CAMELYON16. What of it is not known here, and what stands in its place, says docs/evaluation.md: patch
and rule are DGMIL's (512 px at 5x, tumour from 25 % of the area on), the curve of sensitivities is Bayes-MIL's (each
patch a detection, read at 1/4 to 8 false positives a slide).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_hf.evaluation.blocks import MapLike, read_block, row_blocks
from wsi_hf.evaluation.bootstrap import percentile_interval, slide_resamples
from wsi_hf.evaluation.estimates import Estimate
from wsi_hf.evaluation.froc.curve import RATES, PooledFindings, SlideFindings, read_curve

PATCH_UM = 995.0
"""512 px at 5x, where 40x is 0.243 um."""
TUMOUR_SHARE = 0.25
"""A patch with at least this share of tumour is a tumour patch."""
FIGURES = ("patch_auc", "patch_average_precision", "patch_froc")
RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class Patches:
    """The patches of one slide, those where nothing was analysed left out unless they hold tumour.

    Attributes:
        side_um: of a patch.
        score: mean P(malignant) over a patch, 0 where a pixel was not analysed: its predicted share of tumour, (n,).
        share: of its area that is tumour, shape (n,).
    """

    side_um: float
    score: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def tumour(self) -> NDArray[np.bool_]:
        return self.share >= TUMOUR_SHARE


def cut_patches(probabilities: MapLike, truth: MapLike, mpp: float, side_um: float = PATCH_UM) -> Patches:
    """Cut a map into a grid of patches from its upper left corner; those at the right and below may be narrower.

    Args:
        probabilities: P(malignant), 0 where a pixel was not analysed, shape (H, W).
        truth: True where there is tumour, shape (H, W).
        mpp: um per pixel of both.
        side_um: side of a patch; rounded to whole pixels.
    """
    if not side_um > 0:
        raise ValueError(f"patches have a side of more than 0 um, not {side_um}")
    side, (height, width) = max(1, round(side_um / mpp)), probabilities.shape
    sums = np.zeros((3, -(-height // side), -(-width // side)))  # of P, of tumour, of what was analysed
    for block in row_blocks((height, width)):
        score, tumour = read_block(probabilities, block), read_block(truth, block)
        of_row = np.arange(block[0].start, block[0].stop) // side
        for total, values in zip(sums, (score, tumour, score > 0), strict=True):
            np.add.at(total, of_row, np.add.reduceat(values, np.arange(0, width, side), axis=1, dtype=np.float64))
    area = np.outer(_lengths(height, side), _lengths(width, side))
    kept = (sums[1] > 0) | (sums[2] > 0)
    return Patches(side * mpp, (sums[0] / area)[kept], (sums[1] / area)[kept])


def patch_figures(slides: Mapping[str, Patches], seed: int = 0) -> dict[str, dict[str, object]]:
    """Pool the patches of all slides, with intervals by bootstrap over slides.

    Args:
        slides: of benign slides, and of malignant ones with all their tumour outlined.
        seed: the same seed gives the same intervals.

    Returns:
        `patch_auc`, `patch_average_precision` and `patch_froc`, the mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false
        positives a slide; nothing where no slide has patches. Undefined without tumour patches, or without others.
    """
    if not slides:
        return {}
    findings = {name: _findings(patches) for name, patches in slides.items()}
    pooled = PooledFindings(findings, "challenge")
    others = np.array([len(slide.false_positives) for slide in findings.values()])
    value = _figures(pooled, others, np.ones(len(slides), np.int64))
    resamples = slide_resamples(pooled.malignant, RESAMPLES, seed)
    resampled = np.array([_figures(pooled, others, times) for times in resamples])
    counts: dict[str, int | float] = {
        "n_patches": int(others.sum() + pooled.n_lesions.sum()),
        "n_tumour_patches": int(pooled.n_lesions.sum()),
        "patch_um": next(iter(slides.values())).side_um,
        "tumour_share": TUMOUR_SHARE,
    }
    return {
        name: Estimate(float(value[i]), percentile_interval(resampled[:, i]), len(slides), counts).to_json()
        for i, name in enumerate(FIGURES)
    }


def _findings(patches: Patches) -> SlideFindings:
    """Each patch a detection: a tumour patch is a lesion that it finds, any other a false positive."""
    hits = patches.score[patches.tumour].tolist()
    return SlideFindings(bool((patches.share > 0).any()), patches.score[~patches.tumour], dict(enumerate(hits)))


def _figures(pooled: PooledFindings, others: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.float64]:
    """AUC, average precision and mean sensitivity of the patches of slides taken so often, shape (3,).

    Args:
        pooled: the patches.
        others: patches of each slide that are no tumour patches, shape (n_slides,).
        times: how often each slide counts, shape (n_slides,).
    """
    rates, sensitivity, _ = pooled.curve(times)
    false, hit = np.append(rates * times.sum(), times @ others), np.append(sensitivity, 1.0)  # the smallest score too
    hits = hit * (times @ pooled.n_lesions)
    with np.errstate(invalid="ignore"):
        auc = np.trapezoid(hit, false) / false[-1]
        average_precision = np.diff(hit) @ (hits / (hits + false))[1:]
    return np.array([auc, average_precision, read_curve(rates, sensitivity, RATES, "challenge").mean()])


def _lengths(length: int, side: int) -> NDArray[np.int64]:
    """Pixels of each patch along one side of the map: all `side`, but the last."""
    return np.diff(np.append(np.arange(0, length, side), length))
