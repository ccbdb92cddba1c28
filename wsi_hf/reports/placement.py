"""Where training drew its patches, seen with the annotations that training itself never opens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class TumourShare:
    """Share of the patches of malignant slides that hold tumour, over training.

    Attributes:
        steps: middle of each bin of optimiser steps, shape (m,).
        share: share of patches with tumour in that bin, shape (m,).
        n: number of patches behind each share, shape (m,).
    """

    steps: NDArray[np.float64]
    share: NDArray[np.float64]
    n: NDArray[np.int64]


def share_of_tumour_patches(
    steps: ArrayLike,
    slide_ids: Sequence[str],
    centers_l0: ArrayLike,
    polygons: Mapping[str, shapely.Geometry],
    side_l0: float | Mapping[str, float],
    every: int = 1,
) -> TumourShare:
    """Tell how many of the drawn patches hold tumour: what dynamic sampling is there to raise.

    Args:
        steps: optimiser step of each draw, shape (n,).
        slide_ids: slide of each draw, n names.
        centers_l0: centre (x, y) of each patch in level-0 pixels, shape (n, 2).
        polygons: tumour of each malignant slide, level-0 coordinates. Draws from other slides are left out.
        side_l0: side of a patch in level-0 pixels, for all slides or for each.
        every: steps per bin.
    """
    step, names, centers = np.asarray(steps), np.asarray(slide_ids), np.asarray(centers_l0, float)
    if not len(step) == len(names) == len(centers):
        raise ValueError(f"{len(step)} steps, {len(names)} slides and {len(centers)} centres: one of each a draw")
    malignant, tumour = np.zeros(len(step), bool), np.zeros(len(step), bool)
    for slide_id, area in polygons.items():
        drawn = np.flatnonzero(names == slide_id)
        if area.is_empty or not len(drawn):
            continue
        half = (side_l0[slide_id] if isinstance(side_l0, Mapping) else side_l0) / 2
        x, y = centers[drawn].T
        shapely.prepare(area)
        malignant[drawn] = True
        tumour[drawn] = shapely.intersects(area, shapely.box(x - half, y - half, x + half, y + half))
    bins, place = np.unique(step[malignant] // every, return_inverse=True)
    n = np.bincount(place, minlength=len(bins))
    hits = np.bincount(place, tumour[malignant], minlength=len(bins))
    return TumourShare(bins * every + (every - 1) / 2, hits / np.maximum(n, 1), n)
