"""What a slide's tissue looks like, as a few numbers: stain and texture, to know a slide unlike any other."""

import numpy as np
from numpy.typing import NDArray

from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.slide import Slide

PATCHES, PATCH_PX = 24, 96
LAGS_PX = (1, 4, 16)
FEATURES = (
    *("red mean", "green mean", "blue mean", "red spread", "green spread", "blue spread"),
    *("dark share", "pale share"),
    *(f"texture {lag}" for lag in LAGS_PX),
)
"""Optical densities: means and spreads over the tissue, shares of dark and pale pixels, mean steps over a lag."""


def appearance(slide: Slide, tissue: NDArray[np.bool_] | None, mpp: float) -> NDArray[np.float64] | None:
    """Look at patches spread evenly over the tissue.

    Args:
        slide: the slide.
        tissue: mask (H, W) that spans it; None for all of it.
        mpp: resolution to look at, the model's.

    Returns:
        One number a feature, shape (len(FEATURES),); None where no patch can be read.
    """
    patches = []
    for center_l0 in _centers(slide, tissue):
        try:
            patches.append(slide.read_patch(center_l0, PATCH_PX, mpp))
        except SlideError:
            continue
    if not patches:
        return None
    density = -np.log10(np.maximum(np.stack(patches), 1) / 255.0)  # (N, H, W, 3)
    return np.array([*_colours(density), *(_step(density.mean(axis=-1), lag) for lag in LAGS_PX)])


def _centers(slide: Slide, tissue: NDArray[np.bool_] | None) -> list[tuple[float, float]]:
    """(x, y) in level-0 pixels of cells of the mask, evenly over their order; the same for the same mask."""
    mask = np.ones((8, 8), bool) if tissue is None or not tissue.any() else tissue
    cells = np.argwhere(mask)
    chosen = cells[np.linspace(0, len(cells) - 1, min(PATCHES, len(cells))).round().astype(int)]
    scale = np.array(slide.dimensions_l0) / mask.shape[::-1]
    return [tuple((cell[::-1] + 0.5) * scale) for cell in chosen]


def _colours(density: NDArray[np.float64]) -> list[float]:
    pixels = density.reshape(-1, 3)
    stained = pixels[pixels.mean(axis=1) > 0.05]
    pixels = stained if len(stained) else pixels
    mean = pixels.mean(axis=1)
    return [*pixels.mean(axis=0), *pixels.std(axis=0), float((mean > 0.5).mean()), float((mean < 0.15).mean())]


def _step(grey: NDArray[np.float64], lag: int) -> float:
    return float(np.abs(grey[:, lag:] - grey[:, :-lag]).mean() + np.abs(grey[:, :, lag:] - grey[:, :, :-lag]).mean())
