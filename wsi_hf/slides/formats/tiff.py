"""TIFF files that OpenSlide would misread: opened otherwise where they have one meaning, else refused."""

import re
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import tifffile
from defusedxml import ElementTree
from openslide import AbstractSlide
from PIL import Image

from wsi_hf.slides.damaged import STUMBLES
from wsi_hf.slides.formats.images import PixelError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
RGB = ("red", "green", "blue")
COLOURS = {"red": "red", "r": "red", "green": "green", "g": "green", "blue": "blue", "b": "blue"}
COLOUR_CODES = {0xFF0000FF: "red", 0x00FF00FF: "green", 0x0000FFFF: "blue"}
"""OME's Color of a channel, red first, opacity last."""
UM = {"m": 1e6, "cm": 1e4, "mm": 1e3, "\xb5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6}
LARGEST_TILE_PX = 2**26
"""Pixels of a stored tile: OpenSlide decodes it at once, 4 bytes each, and ends the process where that fails."""


class PlanarTiff(AbstractSlide):
    """An OME-TIFF whose red, green and blue are three images."""

    def __init__(self, path: Path, order: list[int], description: str) -> None:
        import zarr  # takes half a second, and few slides are of this kind

        super().__init__()
        self._tiff, self._order = tifffile.TiffFile(path), order
        series = self._tiff.series[0]
        self._levels = [zarr.open_array(series.aszarr(level=level), mode="r") for level in range(len(series.levels))]
        self._description = description

    @classmethod
    def detect_format(cls, filename: object) -> str:
        return "ome-tiff of three images"

    @property
    def properties(self) -> dict[str, str]:
        return {"tiff.ImageDescription": self._description}

    @property
    def level_count(self) -> int:
        return len(self._levels)

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        return tuple((level.shape[2], level.shape[1]) for level in self._levels)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        return tuple(self._levels[0].shape[2] / level.shape[2] for level in self._levels)

    @property
    def associated_images(self) -> dict[str, Image.Image]:
        return {}

    def get_best_level_for_downsample(self, downsample: float) -> int:
        return max(level for level, own in enumerate(self.level_downsamples) if own <= max(1.0, downsample))

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """As OpenSlide's: (x, y) in level-0 pixels, (width, height) in the level's; RGBA, transparent outside."""
        (width, height), scale = self.level_dimensions[level], self.level_downsamples[level]
        left, top = (round(start / scale) for start in location)
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + size[0]), min(height, top + size[1])
        region = Image.new("RGBA", size, (0, 0, 0, 0))
        if x0 < x1 and y0 < y1:
            try:
                planes = np.asarray(self._levels[level][:, y0:y1, x0:x1])[self._order]
            except STUMBLES as error:
                raise OSError(f"{type(error).__name__}: {error}") from error
            region.paste(Image.fromarray(np.ascontiguousarray(np.moveaxis(planes, 0, -1))), (x0 - left, y0 - top))
        return region

    def set_cache(self, cache: object) -> None:
        """It has none."""

    def close(self) -> None:
        self._tiff.close()


def open_planar(path: Path) -> PlanarTiff | None:
    """Open an OME-TIFF whose colours are images of their own; None for a TIFF that OpenSlide or Pillow read rightly.

    Raises:
        PixelError: its pixels are not of 8 bits, or its channels are not red, green and blue.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            page, description = tiff.pages.first, tiff.ome_metadata
            kind, samples = page.dtype, page.samplesperpixel
            shape, axes = (tiff.series[0].shape, tiff.series[0].axes) if description else ((), "")
    except (tifffile.TiffFileError, *STUMBLES):
        return None  # damaged: OpenSlide and Pillow say how
    if kind is not None and kind not in (np.uint8, np.bool_):
        raise PixelError(f"its pixels are of type {kind}, not of 8 bits: scale it to 8-bit RGB yourself")
    channels = shape[axes.index("C")] if "C" in axes else 1
    if not description or samples != 1 or channels == 1:
        return None
    order = _colour_order(description)
    if axes != "CYX" or order is None:
        raise PixelError(
            f"it holds {channels} images of one channel each (axes {axes}), which are not named red, green and blue: "
            "not a stained slide, or convert it to RGB"
        )
    return PlanarTiff(path, order, description)


def check_tiles(properties: dict[str, str]) -> None:
    """Refuse a slide whose tiles could not be decoded.

    Raises:
        PixelError: says how large they claim to be.
    """
    for name, width in properties.items():
        if found := re.fullmatch(r"openslide\.level\[(\d+)\]\.tile-width", name):
            height = properties.get(f"openslide.level[{found[1]}].tile-height", "0")
            if int(width) * int(height) > LARGEST_TILE_PX:
                raise PixelError(f"a tile of it claims {width} x {height} pixels; store it anew in small tiles")


def ome_mpp(description: str) -> tuple[float, float] | None:
    """(x, y) um per pixel of the first image that OME-XML describes; None where it does not say."""
    pixels = _elements(description, "Pixels")
    try:
        x, y = (
            float(pixels[0].attrib[f"PhysicalSize{axis}"]) * UM[pixels[0].get(f"PhysicalSize{axis}Unit", "um")]
            for axis in "XY"
        )
    except (LookupError, ValueError):
        return None
    return x, y


def _colour_order(description: str) -> list[int] | None:
    """Which channel is red, which green, which blue; None unless all three say so, by name or by colour."""
    colours = [_colour(channel) for channel in _elements(description, "Channel")]
    return [colours.index(colour) for colour in RGB] if sorted(colours) == sorted(RGB) else None


def _colour(channel: Element) -> str:
    name, code = channel.get("Name", "").strip().lower(), channel.get("Color", "")
    if name not in COLOURS and re.fullmatch(r"-?\d{1,11}", code):
        return COLOUR_CODES.get(int(code) & 0xFFFFFFFF, "")
    return COLOURS.get(name, "")


def _elements(description: str, name: str) -> list[Element]:
    """The elements of a name in OME-XML; none where it is something else, or damaged."""
    if "<OME" not in description[:4000]:
        return []
    try:
        root = ElementTree.fromstring(description.strip("\0 \r\n\t"), forbid_dtd=True)
    except (ElementTree.ParseError, ValueError, LookupError):
        return []
    return [element for element in root.iter() if element.tag.rpartition("}")[2] == name]
