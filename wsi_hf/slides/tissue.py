"""Where the tissue is: what absorbs green light more than red or blue, as H&E does, and glass, dust and pen do not."""

import logging
import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.morphology import remove_small_objects

from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

FAINT, STAINED = 0.02, 0.04
"""Stain density of tissue: what is faintly stained counts where it touches what is stained. Mucus, fat and pale glands
are tissue, the noise of glass is not; chosen in docs/segmenting.md."""
GREY = 0.25
"""Share of green's optical density under which a colour counts as grey (dust, black pen, scanner borders); stains have
over 0.5."""
BLUE_INK = 1.2
"""How many times more red than green blue pen absorbs; tissue, haematoxylin with some eosin, less than once."""
RED_INK_BLUE, RED_INK_RED, RED_INK_DENSITY = 0.75, 0.5, 0.35
"""Red pen absorbs blue almost as green, red little, and much of it; a thousandth of real tissue does, mostly blood."""
INK_DENSITY, INK_VARIATION, INK_UM = 0.55, 0.1, 40.0
"""Pen of stain's own colours, such as purple, is darker than this and varies by less within a window of this side: dark
tissue is never so even."""
SMOOTHING_UM, OWN_UM = 8.0, 2.0
SMALLEST_UM2 = 5000.0
"""Specks and holes smaller than this (about 70 x 70 um) are removed and filled."""
BAND_ROWS = 512
MOST_CELLS = 2**26
"""Larger slides, which no scanner makes, are looked at in coarser cells: the memory stays under a gigabyte."""

ReadRegion = Callable[[tuple[int, int], tuple[int, int], float], np.ndarray]
"""`Slide.read_region_px`, or what stands in for it."""


def find_tissue(slide: Slide, mpp: float = 8.0, read: ReadRegion | None = None) -> np.ndarray:
    """Find the tissue of a slide; read band by band from the coarsest level that is fine enough.

    Args:
        slide: the slide.
        mpp: um per cell of the mask.
        read: in place of the slide's own `read_region_px`.

    Returns:
        bool, shape (H, W) = `slide.size_px(mpp)` reversed: cell (i, j) is pixel (x=j, y=i) of the slide's grid at
        `mpp`.
    """
    read = read or slide.read_region_px
    width, height = slide.size_px(mpp)
    cell = mpp * math.ceil(math.sqrt(width * height / MOST_CELLS))
    columns, rows = slide.size_px(cell)
    overview_mpp = slide.mpp * max(1.0, max(slide.dimensions_l0) / BAND_ROWS)
    glass = _glass(read((0, 0), slide.size_px(overview_mpp), overview_mpp))
    density, margin = np.empty((rows, columns), np.float16), _margin(cell)
    for top in range(0, rows, BAND_ROWS):
        count = min(BAND_ROWS, rows - top)
        band = read((0, top - margin), (columns, count + 2 * margin), cell)
        density[top : top + count] = _tissue_density(band, glass, cell)[margin : margin + count]
    mask = _cleaned(density, cell)
    if not mask.any():
        logger.warning("%s: no tissue found", slide.slide_id)
    if cell > mpp:
        places = (mask_index(np.arange(n), n, m, cell / mpp) for n, m in zip((height, width), mask.shape, strict=True))
        mask = mask[np.ix_(*places)]
    return mask


def find_tissue_in(image: np.ndarray, mpp: float) -> np.ndarray:
    """Find the tissue of an image: `stain_density`, smoothed, over a threshold, then cleaned.

    Args:
        image: uint8, shape (H, W, 3).
        mpp: um per pixel of the image.
    """
    return _cleaned(_tissue_density(image, _glass(image), mpp), mpp)


def mask_index(pixels: np.ndarray, size_px: int, size_mask: int, cell_px: float | None = None) -> np.ndarray:
    """The row (or column) of a mask of a slide at which each pixel's centre lies.

    Args:
        pixels: rows (or columns) of the slide, from 0.
        size_px: how many the slide has.
        size_mask: how many the mask has.
        cell_px: the side of a cell, of a mask that begins at the slide's corner and whose last cell may stick out; None
            for a mask that spans the slide exactly.
    """
    a_pixel = size_mask / size_px if cell_px is None else 1 / cell_px
    return ((pixels + 0.5) * a_pixel).astype(np.intp).clip(0, size_mask - 1)


def stain_density(image: np.ndarray, glass: np.ndarray | None = None) -> np.ndarray:
    """How much more green is absorbed than red or blue, whichever of the two is absorbed less; float32, shape (H, W).

    In optical density against the slide's own glass: od_g - min(od_r, od_b). Eosin absorbs green alone, haematoxylin
    red and green, so both are positive. What is grey, black, green, too blue or too red to be stain is set to 0.
    """
    glass = _glass(image) if glass is None else glass
    density = np.empty(image.shape[:2], np.float32)
    for top in range(0, image.shape[0], BAND_ROWS):
        band = image[top : top + BAND_ROWS]
        red, green, blue = np.moveaxis(-np.log10(np.maximum(band, 1) / glass), -1, 0).astype(np.float32)
        stain = green - np.minimum(red, blue)
        red_ink = (blue > RED_INK_BLUE * green) & (red < RED_INK_RED * green) & (green > RED_INK_DENSITY)
        density[top : top + BAND_ROWS] = np.where((stain < GREY * green) | (red > BLUE_INK * green) | red_ink, 0, stain)
    return density


def _tissue_density(image: np.ndarray, glass: np.ndarray, mpp: float) -> np.ndarray:
    """The stain, without ink, averaged over some um; what it is at a pixel depends on `_margin` pixels round it.

    Dark tissue does not shine on the glass beside it: a place has at most twice its own stain.
    """
    stain = np.where(_even_ink(image, glass, mpp), 0, stain_density(image, glass))
    own = ndimage.gaussian_filter(stain, OWN_UM / mpp, truncate=2.0)
    return np.minimum(ndimage.gaussian_filter(stain, SMOOTHING_UM / mpp, truncate=2.0), 2 * own)


def _even_ink(image: np.ndarray, glass: np.ndarray, mpp: float) -> np.ndarray:
    """Where the slide is dark and even as no tissue is, bool (H, W)."""
    size = max(3, round(INK_UM / mpp))
    green = -np.log10(np.maximum(image[..., 1], 1) / glass[1]).astype(np.float32)
    green = ndimage.gaussian_filter(green, SMOOTHING_UM / mpp / 2, truncate=2.0)
    mean = ndimage.uniform_filter(green, size)
    variance = ndimage.uniform_filter(green**2, size) - mean**2
    even = (mean > INK_DENSITY) & (variance < (INK_VARIATION * mean) ** 2)
    strokes = ndimage.minimum_filter(even, size)  # as wide as a window, at least
    return ndimage.maximum_filter(strokes, 2 * size + 1)


def _margin(mpp: float) -> int:
    """Pixels round a region that `_tissue_density` looks at."""
    return 3 * max(3, round(INK_UM / mpp)) + math.ceil(3 * SMOOTHING_UM / mpp) + 2


def _cleaned(density: np.ndarray, mpp: float) -> np.ndarray:
    """Faint stain that touches stain, without specks and small holes."""
    labels, count = ndimage.label(density > FAINT, np.ones((3, 3)))
    kept = np.zeros(count + 1, bool)
    kept[np.unique(labels[density > STAINED])] = True
    kept[0] = False
    mask = remove_small_objects(kept[labels], max_size=max(1, round(SMALLEST_UM2 / mpp**2)))
    del labels
    holes = ndimage.binary_fill_holes(mask) & ~mask
    return mask | (holes & ~remove_small_objects(holes, max_size=max(1, round(SMALLEST_UM2 / mpp**2))))


def _glass(image: np.ndarray) -> np.ndarray:
    """Colour of the empty glass: the median of bright, nearly grey pixels; white where a crop shows (almost) none."""
    pixels = image[:: max(1, image.shape[0] // 512), :: max(1, image.shape[1] // 512)].reshape(-1, 3)
    bright = pixels[(pixels.min(axis=1) >= 200) & (np.ptp(pixels, axis=1) <= 25)]
    return np.median(bright, axis=0) if len(bright) >= 0.02 * len(pixels) else np.full(3, 255.0)
