"""The coloured picture: a thumbnail of the slide under its heatmap, with the outlines of lesions."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from wsi_hf.inference.reading import Damage, read_contained
from wsi_hf.inference.tiling import Tile, pixels
from wsi_hf.slides.replacing import replacing
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue import mask_index

OPACITY = 0.6
"""Of the heatmap where p = 1; it fades with p, so that benign tissue stays visible."""
NOT_ANALYSED = (128, 128, 128)


def write_overlay(
    path: Path,
    slide: Slide,
    probabilities: Any,
    tiles: Iterable[Tile],
    damages: Iterable[Damage],
    threshold: float,
    size: int = 2048,
    made_by: str = "",
) -> None:
    """Write the overlay as PNG.

    Args:
        probabilities: P(malignant), shape (H, W), sliced `[rows, columns]`; spans the slide.
        tiles: where it is not 0.
        damages: rectangles to hatch, because they were not analysed.
        threshold: the outline's probability.
        size: longer side of the picture in pixels.
        made_by: the model and its revision, kept in the file's "Software".
    """
    mpp = slide.mpp * max(1.0, max(slide.dimensions_l0) / size)
    picture = read_contained(slide, (0, 0), slide.size_px(mpp), mpp, spot=16)[0].astype(np.float32)
    heat = map_at(probabilities, tiles, picture.shape[:2])
    colours = colormaps["inferno"](heat)[..., :3].astype(np.float32) * 255
    opacity = (OPACITY * heat)[..., None]
    picture = picture * (1 - opacity) + colours * opacity
    picture[outline(heat >= threshold, width=max(1, round(size / 700)))] = (0, 220, 255)
    for damage in damages:
        _hatch(picture, damage, probabilities.shape)
    facts = PngInfo()
    facts.add_text("Software", made_by)
    with replacing(path) as part:
        Image.fromarray(np.rint(picture).astype(np.uint8)).save(part, format="PNG", pnginfo=facts)


def map_at(probabilities: Any, tiles: Iterable[Tile], shape: tuple[int, int]) -> np.ndarray:
    """The map at a picture's size (H, W): along each axis the maximum where the picture is coarser than the map, the
    pixel that lies there where it is finer."""
    height, width = (min(picture, there) for picture, there in zip(shape, probabilities.shape, strict=True))
    heat = reduced_maximum(probabilities, tiles, (height, width))
    rows, columns = (mask_index(np.arange(a), a, b) for a, b in zip(shape, (height, width), strict=True))
    return heat[np.ix_(rows, columns)]


def reduced_maximum(probabilities: Any, tiles: Iterable[Tile], shape: tuple[int, int]) -> np.ndarray:
    """The map at a small size, each cell the maximum of its pixels, so that no lesion is too small to be seen."""
    small = np.zeros(shape, np.float32)
    height, width = probabilities.shape
    for tile in tiles:
        rows = mask_index(pixels(tile.rows), height, shape[0])
        columns = mask_index(pixels(tile.columns), width, shape[1])
        (row, first_rows), (column, first_columns) = (np.unique(index, return_index=True) for index in (rows, columns))
        p = np.asarray(probabilities[tile.rows, tile.columns])
        p = np.maximum.reduceat(np.maximum.reduceat(p, first_rows, axis=0), first_columns, axis=1)
        cells = np.ix_(row, column)
        small[cells] = np.maximum(small[cells], p)
    return small


def outline(mask: np.ndarray, width: int) -> np.ndarray:
    """The cells of a mask that lie within `width` cells of one outside it."""
    return mask & ~ndimage.binary_erosion(mask, iterations=width)


def _hatch(picture: np.ndarray, damage: Damage, map_shape: tuple[int, int]) -> None:
    rows = mask_index(pixels(damage.rows), map_shape[0], picture.shape[0])
    columns = mask_index(pixels(damage.columns), map_shape[1], picture.shape[1])
    part = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    y, x = np.indices(part.shape[:2])
    part[(x + y) % 8 < 3] = NOT_ANALYSED
