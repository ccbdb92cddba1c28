"""Tiles of slides and maps as JPEG and PNG, the latest of them kept in memory."""

import io
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from openslide import OpenSlideError
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from wsi_hf.viewer.shown_slide import ShownSlide

logger = logging.getLogger(__name__)

TILE_PX, OVERLAP_PX = 510, 1
KEPT_TILES, KEPT_SLIDES = 2048, 16
"""About 200 MB of tiles, and slides with their maps held open."""
JPEG_QUALITY = 82
UNREADABLE = (190, 190, 190)


class Tiles:
    """Deep zoom tiles of some slides, by their numbers; safe to use from many threads."""

    def __init__(self, slides: Sequence[ShownSlide]) -> None:
        self._slides = slides
        self._slide = lru_cache(KEPT_SLIDES)(self._open_slide)
        self._map = lru_cache(KEPT_SLIDES)(self._open_map)
        self.slide_tile = lru_cache(KEPT_TILES)(self._slide_tile)
        self.map_tile = lru_cache(KEPT_TILES)(self._map_tile)

    def slide_source(self, number: int) -> dict[str, Any]:
        """What OpenSeadragon must know of a slide."""
        return _source(self._slide(number), 1.0)

    def map_source(self, number: int) -> dict[str, Any]:
        """The same of its map, and how many level-0 pixels it spans."""
        return _source(*self._map(number))

    def _slide_tile(self, number: int, level: int, column: int, row: int) -> bytes:
        """JPEG; raises IndexError where there is no such tile."""
        return _encoded(_tile(self._slide(number), level, column, row).convert("RGB"), "JPEG", quality=JPEG_QUALITY)

    def _map_tile(self, number: int, level: int, column: int, row: int) -> bytes:
        """Grey PNG, 255 = P(malignant) 1; raises IndexError where there is no such tile."""
        return _encoded(_tile(self._map(number)[0], level, column, row).convert("L"), "PNG", compress_level=1)

    def _open_slide(self, number: int) -> DeepZoomGenerator:
        return DeepZoomGenerator(self._slides[number].pixels(), TILE_PX, OVERLAP_PX, limit_bounds=False)

    def _open_map(self, number: int) -> tuple[DeepZoomGenerator, float]:
        image, downsample = self._slides[number].probability_map()
        return DeepZoomGenerator(image, TILE_PX, OVERLAP_PX, limit_bounds=False), downsample


def _source(pyramid: DeepZoomGenerator, downsample: float) -> dict[str, Any]:
    width, height = pyramid.level_dimensions[-1]
    return {
        "width": width,
        "height": height,
        "tileSize": TILE_PX,
        "tileOverlap": OVERLAP_PX,
        "maxLevel": pyramid.level_count - 1,
        "width_l0": width * downsample,
    }


def _tile(pyramid: DeepZoomGenerator, level: int, column: int, row: int) -> Image.Image:
    """One tile; grey where the file is damaged."""
    try:
        return pyramid.get_tile(level, (column, row))
    except ValueError as error:
        raise IndexError(f"no tile {column}, {row} in level {level}") from error
    except OpenSlideError as error:
        logger.warning("tile %d, %d of level %d cannot be read: %s", column, row, level, error)
        return Image.new("RGB", pyramid.get_tile_dimensions(level, (column, row)), UNREADABLE)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
