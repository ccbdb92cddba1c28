"""The pixels' operating point: from benign slides, all of whose lesions are false, to a threshold and an area."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsi_hf.calibration.measuring import THRESHOLDS, SlideMeasure

AREAS_UM2 = (100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)
"""Candidates for the smallest lesion: from a handful of pixels to a gland."""


@dataclass(frozen=True)
class LesionLimit:
    """Where pixels become lesions.

    Attributes:
        shift: margin from which a pixel is malignant.
        smallest_um2: smaller lesions do not count.
        most: lesions of one slide beyond this many are not counted by the bound.
        bound: on the mean number of lesions (at most `most` a slide) of a further benign slide.
        mean: of the benign slides' numbers of lesions, uncapped.
        any_share: on the chance that a further benign slide shows any lesion.
        kept: share of the malignant slides that show one.
        found: how much of the most that a malignant slide shows at any threshold, without a smallest area, is shown; on
            average.
        met: whether the bound is what was wanted; with few slides it cannot be.
    """

    shift: float
    smallest_um2: float
    most: int
    bound: float
    mean: float
    any_share: float
    kept: float
    found: float
    met: bool


def limit_lesions(slides: Sequence[SlideMeasure], wanted: float = 0.25) -> LesionLimit:
    """Find the lowest threshold with which benign slides show at most `wanted` lesions on average.

    The rule is conformal risk control (Angelopoulos et al., 2022): with n benign slides, of which each counts for at
    most B lesions, the expected number on a further one is at most (sum + B) / (n + 1), for any distribution. The bare
    mean must keep to it too. The network's own 0.5 is not undercut, unless half of the malignant slides miss it. Of the
    areas, the one with which most malignant slides still show a lesion is taken; with as many, the one with which they
    show more, by a tenth or so; else the smallest. A larger one keeps the threshold low where benign ones have specks.

    Args:
        slides: benign and malignant.
        wanted: lesions on a benign slide.
    """
    if wanted <= 0:
        raise ValueError(f"false_lesions is a mean number of lesions, > 0; got {wanted}")
    limits = [_limit(slides, wanted, area) for area in AREAS_UM2]
    return max(limits, key=lambda limit: (limit.met, limit.kept, round(limit.found, 1), -limit.smallest_um2))


def _limit(slides: Sequence[SlideMeasure], wanted: float, area: float) -> LesionLimit:
    counts = np.stack([slide.lesions(area) for slide in slides if not slide.label])  # (n, thresholds)
    n = len(counts)
    most = int(np.clip(wanted * (n + 1) / 2, 1, 4))
    bounds = (np.minimum(counts, most).sum(axis=0) + most) / (n + 1)
    own = min(0.0, float(np.median([slide.margin for slide in slides if slide.label])))
    good = (bounds <= wanted) & (counts.mean(axis=0) <= wanted) & (own <= THRESHOLDS)
    met = bool(good.any())
    if not met:
        good = (counts.sum(axis=0) == 0) & (own <= THRESHOLDS)  # too few slides for the bound: none shows a lesion
    place = int(np.flatnonzero(good)[0]) if good.any() else len(THRESHOLDS) - 1
    malignant = [slide for slide in slides if slide.label]
    kept = [slide.lesions(area)[place] > 0 for slide in malignant]
    shown = [slide.shown_um2(area)[place] / max(slide.shown_um2(0).max(), 1e-9) for slide in malignant]
    return LesionLimit(
        shift=float(THRESHOLDS[place]),
        smallest_um2=area,
        most=most,
        bound=float(bounds[place]),
        mean=float(counts[:, place].mean()),
        any_share=float(((counts[:, place] > 0).sum() + 1) / (n + 1)),
        kept=float(np.mean(kept)) if kept else 0.0,
        found=float(np.mean(shown)) if shown else 0.0,
        met=met,
    )
