"""The one writer of pyramidal TIFF: tiled JPEG that OpenSlide opens, with its mpp."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wsi_hf.slides.replacing import replacing

IN_MEMORY_BYTES = 2**28
"""Reduced levels larger than this lie in a temporary file while they are written."""


def write_pyramid(
    path: str | Path, image: Any, mpp: float, tile: int = 256, quality: int = 90, smallest: int = 512
) -> Path:
    """Write an image and its halves, quarters, ... as a pyramidal TIFF, which appears under its name when complete.

    OpenSlide reports `openslide.mpp-x`, and downsamples of exactly 2, 4, ... where the sides divide by them (the last
    odd row and column of a level are left out of the next).

    Args:
        path: the file to write.
        image: uint8, shape (H, W, 3); an array or anything with a `shape` that is sliced `[top:bottom, left:right]`
            into arrays, so that a large image is read tile by tile.
        mpp: um per pixel of the image.
        tile: side of a stored tile in pixels, a multiple of 16.
        quality: JPEG quality.
        smallest: levels are added until the shorter side is at most this.
    """
    path = Path(path)
    if len(image.shape) != 3 or image.shape[2] != 3:
        raise ValueError(f"{path.name}: an RGB image of shape (H, W, 3) is needed, not {tuple(image.shape)}")
    bigtiff = image.shape[0] * image.shape[1] > 2**29
    with replacing(path) as part, tifffile.TiffWriter(part, bigtiff=bigtiff) as tif:
        level = 0
        while True:
            _write_level(tif, image, mpp * 2**level, tile, quality, reduced=level > 0)
            if min(image.shape[:2]) <= max(1, smallest):
                break
            image = _half(image)
            level += 1
    return path


def _write_level(tif: tifffile.TiffWriter, image: Any, mpp: float, tile: int, quality: int, reduced: bool) -> None:
    tif.write(
        _tiles(image, tile),
        shape=image.shape,
        dtype=np.uint8,
        tile=(tile, tile),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": quality},
        resolution=(1e4 / mpp, 1e4 / mpp),
        resolutionunit="CENTIMETER",  # OpenSlide trusts no other unit in a generic TIFF
        subfiletype=1 if reduced else 0,
        metadata=None,
        maxworkers=1,
    )


def _tiles(image: Any, tile: int) -> Iterator[np.ndarray]:
    height, width = image.shape[:2]
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            pixels = np.asarray(image[top : top + tile, left : left + tile])
            short = tile - pixels.shape[0], tile - pixels.shape[1]
            # the edge is repeated, not filled, so that JPEG does not ring into the last pixels
            yield np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")


def _half(image: Any) -> np.ndarray:
    """Average 2 x 2 pixels; band by band, into a temporary file where the result is large."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    half: np.ndarray
    if height * width * 3 > IN_MEMORY_BYTES:
        with tempfile.TemporaryFile() as file:  # the map keeps it until it is dropped
            half = np.memmap(file, np.uint8, "w+", shape=(height, width, 3))
    else:
        half = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, 256):
        bottom = min(height, top + 256)
        for left in range(0, width, 4096):
            right = min(width, left + 4096)
            fine = np.asarray(image[2 * top : 2 * bottom, 2 * left : 2 * right]).astype(np.uint16)
            rows = fine[0::2] + fine[1::2]
            half[top:bottom, left:right] = (rows[:, 0::2] + rows[:, 1::2] + 2) >> 2
    return half
