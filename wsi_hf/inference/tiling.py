"""The grid of tiles that covers a slide: aligned so that they join without a seam, and only where there is tissue.

Everything here is in pixels of the slide at the model's mpp (`_px`). A tissue mask is a bool array of any resolution
that spans the whole slide; see `slides.tissue.mask_index`.
"""

import math
from dataclasses import dataclass

import numpy as np

from wsi_hf.slides.tissue import mask_index

EVEN_STEP = 64
"""Tiles are evened out in these steps where they can, so that the cells of training maps never straddle two tiles."""


@dataclass(frozen=True)
class Rectangle:
    """Part of a slide: x_px, y_px is its corner."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int

    @property
    def rows(self) -> slice:
        return slice(self.y_px, self.y_px + self.height_px)

    @property
    def columns(self) -> slice:
        return slice(self.x_px, self.x_px + self.width_px)


@dataclass(frozen=True)
class Tile(Rectangle):
    """One cell of the grid, cut off at the slide's border. index: its place in the whole grid, row by row."""

    index: int


@dataclass(frozen=True)
class TileGrid:
    """A grid of equal tiles over a slide.

    size_px: (width, height) of the slide. tile_px: (width, height) of a tile, multiples of the alignment.
    """

    size_px: tuple[int, int]
    tile_px: tuple[int, int]

    @classmethod
    def cover(cls, size_px: tuple[int, int], tile_size: int, alignment: int) -> "TileGrid":
        """The fewest tiles of at most `tile_size` that cover the slide, evened out so that the last is not left small.

        Args:
            size_px: (width, height) of the slide.
            tile_size: the longest side of a tile, rounded up to the alignment.
            alignment: tile corners are multiples of this.
        """
        if min(size_px) < 1:
            raise ValueError(f"a slide of {size_px[0]} x {size_px[1]} pixels has nothing to segment")
        if tile_size < 1:
            raise ValueError(f"tile_size must be positive; got {tile_size}")
        longest = _round_up(tile_size, alignment)
        step = math.lcm(alignment, EVEN_STEP) if longest % EVEN_STEP == 0 else alignment
        width, height = (_round_up(math.ceil(n / math.ceil(n / longest)), step) for n in size_px)
        return cls(size_px, (width, height))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of tiles."""
        return math.ceil(self.size_px[1] / self.tile_px[1]), math.ceil(self.size_px[0] / self.tile_px[0])

    def tile(self, index: int) -> Tile:
        row, column = divmod(index, self.shape[1])
        x, y = column * self.tile_px[0], row * self.tile_px[1]
        return Tile(x, y, min(self.tile_px[0], self.size_px[0] - x), min(self.tile_px[1], self.size_px[1] - y), index)

    def tiles(self, tissue: np.ndarray | None = None) -> list[Tile]:
        """The tiles that hold tissue, row by row; all of them without a mask."""
        rows, columns = self.shape
        tiles = [self.tile(index) for index in range(rows * columns)]
        return tiles if tissue is None else [tile for tile in tiles if self.tissue_of(tile, tissue).any()]

    def tissue_of(self, tile: Tile, tissue: np.ndarray) -> np.ndarray:
        """The mask at the tile's pixels, bool (height_px, width_px)."""
        rows = mask_index(pixels(tile.rows), self.size_px[1], tissue.shape[0])
        columns = mask_index(pixels(tile.columns), self.size_px[0], tissue.shape[1])
        return tissue[rows[:, None], columns]


def pixels(part: slice) -> np.ndarray:
    """The pixels of a range."""
    return np.arange(part.start, part.stop)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
