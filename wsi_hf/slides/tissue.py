"""Where the tissue is: what absorbs green light more than red or blue, as H&E does, and glass and dust do not."""

import logging

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_objects

from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

THRESHOLD_RANGE = (0.03, 0.08)
"""Otsu's threshold is kept in here: below lies the noise of glass (an all-white slide stays empty), above it stained
tissue (a slide that is all tissue stays whole, a pale one does not vanish)."""
GREY = 0.25
"""Share of green's optical density under which a colour counts as grey (dust, black pen, scanner borders); stains have
over 0.5."""
BLUE_INK = 1.2
"""How many times more red than green blue pen absorbs; tissue, haematoxylin with some eosin, less than once."""
SMOOTHING_UM = 8.0
SMALLEST_UM2 = 5000.0
"""Specks and holes smaller than this (about 70 x 70 um) are removed and filled."""
BAND_ROWS = 512


def find_tissue(slide: Slide, mpp: float = 8.0) -> np.ndarray:
    """Find the tissue of a slide; read block by block from the coarsest level that is fine enough.

    Args:
        slide: the slide.
        mpp: um per cell of the mask.

    Returns:
        bool, shape (H, W) = `slide.size_px(mpp)` reversed: cell (i, j) is pixel (x=j, y=i) of the slide's grid at
        `mpp`.
    """
    mask = find_tissue_in(slide.read_region_px((0, 0), slide.size_px(mpp), mpp), mpp)
    if not mask.any():
        logger.warning("%s: no tissue found", slide.slide_id)
    return mask


def find_tissue_in(image: np.ndarray, mpp: float) -> np.ndarray:
    """Find the tissue of an image: Otsu's threshold on `stain_density`, kept within `THRESHOLD_RANGE`, then cleaned.

    Args:
        image: uint8, shape (H, W, 3).
        mpp: um per pixel of the image.
    """
    density = ndimage.gaussian_filter(stain_density(image), SMOOTHING_UM / mpp, truncate=2.0)
    low, high = THRESHOLD_RANGE
    spread = np.clip(density, 0, 1)
    threshold = np.clip(threshold_otsu(spread), low, high) if spread.max() > spread.min() else high
    smallest = max(1, round(SMALLEST_UM2 / mpp**2))
    mask = remove_small_objects(density > threshold, max_size=smallest)
    holes = ndimage.binary_fill_holes(mask) & ~mask
    return mask | (holes & ~remove_small_objects(holes, max_size=smallest))


def mask_index(pixels: np.ndarray, size_px: int, size_mask: int) -> np.ndarray:
    """The row (or column) of a mask that spans a slide at which each pixel's centre lies.

    Cells of a whole number of pixels begin at the slide's corner, and the last may stick out; others span it exactly.

    Args:
        pixels: rows (or columns) of the slide, from 0.
        size_px: how many the slide has.
        size_mask: how many the mask has.
    """
    side = round(size_px / size_mask)
    if side and -(-size_px // side) == size_mask:
        return ((pixels + 0.5) // side).astype(np.intp).clip(0, size_mask - 1)
    return ((pixels + 0.5) * (size_mask / size_px)).astype(np.intp).clip(0, size_mask - 1)


def stain_density(image: np.ndarray) -> np.ndarray:
    """How much more green is absorbed than red or blue, whichever of the two is absorbed less; float32, shape (H, W).

    In optical density against the slide's own glass: od_g - min(od_r, od_b). Eosin absorbs green alone, haematoxylin
    red and green, so both are positive. What is grey, black, green or too blue to be stain is set to 0.
    """
    glass = _glass(image)
    density = np.empty(image.shape[:2], np.float32)
    for top in range(0, image.shape[0], BAND_ROWS):
        band = image[top : top + BAND_ROWS]
        red, green, blue = np.moveaxis(-np.log10(np.maximum(band, 1) / glass), -1, 0).astype(np.float32)
        stain = green - np.minimum(red, blue)
        density[top : top + BAND_ROWS] = np.where((stain < GREY * green) | (red > BLUE_INK * green), 0, stain)
    return density


def _glass(image: np.ndarray) -> np.ndarray:
    """Colour of the empty glass: the median of bright, nearly grey pixels; white where a crop shows (almost) none."""
    pixels = image[:: max(1, image.shape[0] // 512), :: max(1, image.shape[1] // 512)].reshape(-1, 3)
    bright = pixels[(pixels.min(axis=1) >= 200) & (np.ptp(pixels, axis=1) <= 25)]
    return np.median(bright, axis=0) if len(bright) >= 0.02 * len(pixels) else np.full(3, 255.0)
