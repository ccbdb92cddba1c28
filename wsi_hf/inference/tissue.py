"""Where a slide is looked at: on the tissue that is found, on a mask of one's own, or everywhere."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from wsi_hf.inference.reading import read_contained
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue import find_tissue
from wsi_hf.slides.tissue_masks import read_tissue

logger = logging.getLogger(__name__)

Tissue = Literal["auto"] | str | Path | np.ndarray | None
"""Where to look: found by itself; the file of a mask, or a folder of masks (`slides.tissue_masks`); a bool mask (H, W)
of any resolution that spans the whole slide; everywhere."""

TISSUE_MPP = 8.0


def tissue_mask(slide: Slide, tissue: Tissue) -> np.ndarray | None:
    """The mask to work with; None, with a warning, where a mask holds no tissue at all."""
    if isinstance(tissue, str | Path):
        mask: np.ndarray | None = _find_tissue(slide) if tissue == "auto" else read_tissue(tissue, slide)
    else:
        mask = tissue
    if mask is None or mask.any():
        return mask
    logger.warning("%s: no tissue in the mask; the whole slide is taken instead", slide.slide_id)
    return None


def tissue_cell(tissue: Tissue, mpp: float) -> float | None:
    """The side of the cells of what `tissue_mask` gives, in pixels at an mpp; None for a mask that spans the slide."""
    return TISSUE_MPP / mpp if isinstance(tissue, str) and tissue == "auto" else None


def _find_tissue(slide: Slide) -> np.ndarray:
    """Tissue, and what cannot be read at all, so that it comes up as not analysed."""
    bad: list[tuple[int, int, str]] = []

    def read(origin_px: tuple[int, int], size_px: tuple[int, int], mpp: float) -> np.ndarray:
        image, spots = read_contained(slide, origin_px, size_px, mpp, spot=16)
        bad.extend(spots if mpp == TISSUE_MPP else [])
        return image

    try:
        return find_tissue(slide)
    except SlideError:
        mask = find_tissue(slide, TISSUE_MPP, read)
        for x, y, _ in bad:
            mask[max(0, y) : y + 16, max(0, x) : x + 16] = True
        return mask
