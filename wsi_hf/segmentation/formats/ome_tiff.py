"""Write a probability map as an OME-TIFF whose pyramid Bio-Formats (QuPath), tifffile and OpenSlide all open.

OME-TIFF keeps the reduced levels as SubIFDs of the first image; OpenSlide looks for them in the main chain of images.
Here they are both.
"""

import os
import struct
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wsi_hf.slides.replacing import replacing

TILE = 512
SMALLEST = 512
BAND = 1024
"""Side of the regions that are reduced at a time."""


def write_ome_tiff(path: Path, probabilities: Any, mpp: float, name: str) -> None:
    """Write a map as 8-bit grey, round(255 * p), losslessly compressed.

    Args:
        path: the file to write, usually `*.ome.tif`.
        probabilities: P(malignant), shape (H, W), sliced `[top:bottom, left:right]`.
        mpp: um per pixel of the map.
        name: what the image is called.
    """
    levels = list(_levels(_EightBit(probabilities)))
    with replacing(path) as part:
        with tifffile.TiffWriter(part, ome=True, bigtiff=levels[0].shape[0] * levels[0].shape[1] > 2**30) as tif:
            for number, level in enumerate(levels):
                tif.write(
                    _tiles(level),
                    shape=level.shape,
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    photometric="minisblack",
                    compression="zlib",
                    resolution=(1e4 / (mpp * 2**number), 1e4 / (mpp * 2**number)),
                    resolutionunit="CENTIMETER",
                    subfiletype=1 if number else 0,
                    subifds=len(levels) - 1 if number == 0 else None,
                    metadata=_ome_metadata(mpp, name) if number == 0 else None,
                    maxworkers=1,
                )
        _chain_levels(part)


def _ome_metadata(mpp: float, name: str) -> dict[str, Any]:
    size = {f"PhysicalSize{axis}{unit}": value for axis in "XY" for unit, value in (("", mpp), ("Unit", "µm"))}
    return {"axes": "YX", "Name": name, "Channel": {"Name": "P(malignant)"}, **size}


class _EightBit:
    """A lazily read map as uint8."""

    def __init__(self, probabilities: Any) -> None:
        self.probabilities, self.shape = probabilities, probabilities.shape

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        return np.rint(np.asarray(self.probabilities[region]) * 255).astype(np.uint8)


def _levels(image: Any) -> Iterator[Any]:
    """The image, its half, its quarter, ... until the shorter side is small."""
    while True:
        yield image
        if min(image.shape) <= SMALLEST:
            return
        image = _half(image)


def _half(image: Any) -> np.ndarray:
    """Average 2 x 2 pixels (an odd last row or column is left out), region by region, into a temporary file."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    with tempfile.TemporaryFile() as file:  # the map keeps it alive
        half = np.memmap(file, np.uint8, "w+", shape=(height, width))
    for top in range(0, height, BAND):
        for left in range(0, width, BAND):
            bottom, right = min(height, top + BAND), min(width, left + BAND)
            fine = image[2 * top : 2 * bottom, 2 * left : 2 * right].astype(np.uint16)
            rows = fine[0::2] + fine[1::2]
            half[top:bottom, left:right] = (rows[:, 0::2] + rows[:, 1::2] + 2) >> 2
    return half


def _tiles(image: Any) -> Iterator[np.ndarray]:
    """Tiles row by row, a few of them read at a time."""
    height, width = image.shape
    for top in range(0, height, TILE):
        for start in range(0, width, 8 * TILE):
            band = image[top : top + TILE, start : min(width, start + 8 * TILE)]
            band = np.pad(band, ((0, TILE - band.shape[0]), (0, -band.shape[1] % TILE)))
            for left in range(0, band.shape[1], TILE):
                yield np.ascontiguousarray(band[:, left : left + TILE])


def _chain_levels(path: Path) -> None:
    """Let each level's "next image" point to the level below it, beside being listed as a SubIFD."""
    with tifffile.TiffFile(path) as tif:
        page, big, order = tif.pages.first, tif.is_bigtiff, tif.byteorder
        offsets = [page.offset, *(page.tags["SubIFDs"].value if "SubIFDs" in page.tags else ())]
    count, entry, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
    with open(path, "r+b") as file:
        for here, following in pairwise(offsets):
            file.seek(here)
            (entries,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
            file.seek(entries * entry, os.SEEK_CUR)
            file.write(struct.pack(order + pointer, following))
