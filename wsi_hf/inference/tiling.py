"""The grid of tiles that covers a slide: aligned so that they join without a seam, and only where there is tissue.

Everything here is in pixels of the slide at the model's mpp (`_px`). A tissue mask is a bool array of any resolution
that spans the whole slide, or of cells of `TileGrid.cell_px`; see `slides.tissue.mask_index`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wsi_hf.inference.fitting import Cost, fit
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
    """One cell of the grid, or part of one, cut off at the slide's border. index: the cell's place, row by row."""

    index: int


@dataclass(frozen=True)
class TileGrid:
    """A grid of equal tiles over a slide.

    size_px: (width, height) of the slide. tile_px: (width, height) of a tile, multiples of the alignment. cell_px: the
    side of the cells of tissue masks, as for `mask_index`.
    """

    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    cell_px: float | None = None

    @classmethod
    def cover(
        cls, size_px: tuple[int, int], tile_size: int, alignment: int, cell_px: float | None = None
    ) -> "TileGrid":
        """The fewest tiles of at most `tile_size` that cover the slide, evened out so that the last is not left small.

        Args:
            size_px: (width, height) of the slide.
            tile_size: the longest side of a tile, rounded up to the alignment.
            alignment: tile corners are multiples of this.
            cell_px: of masks, as for `mask_index`.
        """
        if min(size_px) < 1:
            raise ValueError(f"a slide of {size_px[0]} x {size_px[1]} pixels has nothing to segment")
        if tile_size < 1:
            raise ValueError(f"tile_size must be positive; got {tile_size}")
        longest = _round_up(tile_size, alignment)
        step = math.lcm(alignment, EVEN_STEP) if longest % EVEN_STEP == 0 else alignment
        width, height = (_round_up(math.ceil(n / math.ceil(n / longest)), step) for n in size_px)
        return cls(size_px, (width, height), cell_px)

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
        if tissue is None:
            return [self.tile(index) for index in range(rows * columns)]
        width, found = self.tile_px[0], list[Tile]()
        for row in range(rows):
            occupied = self._occupied(row, tissue, math.gcd(*self.tile_px)).any(0)
            here = np.unique(np.flatnonzero(occupied) * math.gcd(*self.tile_px) // width)
            found += [self.tile(row * columns + column) for column in here.tolist()]
        return found

    def fitted(self, tissue: np.ndarray | None, step: int, cost: Cost) -> Iterator[Tile]:
        """The tiles, row by row; of those that are tissue in part, the rectangles that `fitting.fit` finds.

        Args:
            tissue: the mask; None for all of the slide.
            step: corners of rectangles are multiples of this many pixels, which divides the tile's sides.
            cost: of rectangles, by their (heights, widths) in pixels.
        """
        if tissue is None:
            yield from self.tiles()
            return
        width = self.tile_px[0] // step
        for row in range(self.shape[0]):
            occupied = self._occupied(row, tissue, step)
            for column in np.unique(np.flatnonzero(occupied.any(0)) // width).tolist():
                tile = self.tile(row * self.shape[1] + column)
                blocks = occupied[:, column * width : (column + 1) * width]
                for top, bottom, left, right in fit(blocks, lambda h, w: cost(h * step, w * step)):
                    yield self._part(tile, left * step, top * step, right * step, bottom * step)

    def _part(self, tile: Tile, left: int, top: int, right: int, bottom: int) -> Tile:
        right, bottom = min(right, tile.width_px), min(bottom, tile.height_px)
        return Tile(tile.x_px + left, tile.y_px + top, right - left, bottom - top, tile.index)

    def _occupied(self, row: int, tissue: np.ndarray, step: int) -> np.ndarray:
        """Which blocks of `step` pixels of a row of tiles hold tissue, bool (rows, columns) of blocks."""
        top, bottom = row * self.tile_px[1], min((row + 1) * self.tile_px[1], self.size_px[1])
        first, last = self._cells(np.arange(top, bottom, step), step, 1, tissue)
        left, right = self._cells(np.arange(0, self.size_px[0], step), step, 0, tissue)
        band = tissue[first[0] : last[-1] + 1]
        sums = np.zeros((band.shape[0] + 1, band.shape[1] + 1), np.int32)
        sums[1:, 1:] = band.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
        up, down = (first - first[0])[:, None], (last + 1 - first[0])[:, None]
        return sums[down, right + 1] - sums[up, right + 1] - sums[down, left] + sums[up, left] > 0

    def tissue_of(self, tile: Tile, tissue: np.ndarray) -> np.ndarray:
        """The mask at the tile's pixels, bool (height_px, width_px)."""
        rows = mask_index(pixels(tile.rows), self.size_px[1], tissue.shape[0], self.cell_px)
        columns = mask_index(pixels(tile.columns), self.size_px[0], tissue.shape[1], self.cell_px)
        return tissue[rows[:, None], columns]

    def _cells(self, starts: np.ndarray, step: int, axis: int, tissue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first and the last column (axis 0) or row (axis 1) of a mask that blocks of `step` pixels look at."""
        size_px, size_mask = self.size_px[axis], tissue.shape[1 - axis]
        ends = np.minimum(starts + step, size_px) - 1
        return mask_index(starts, size_px, size_mask, self.cell_px), mask_index(ends, size_px, size_mask, self.cell_px)


def pixels(part: slice) -> np.ndarray:
    """The pixels of a range."""
    return np.arange(part.start, part.stop)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
