"""Read the tiles of a slide ahead of the network, in threads, and contain what cannot be read."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

import numpy as np

from wsi_hf.inference.tiling import Rectangle, Tile, TileGrid
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.slide import Slide

BLOCK_PX = 256
"""Side of the blocks that tiles are put together from."""
SPOT_PX = 64
"""Side of the spots in which an unreadable block is read again, so that a corrupt one costs no whole tile."""

ContainedRead = tuple[np.ndarray, list[tuple[int, int, str]]]
"""uint8 (h, w, 3), and (x, y, reason) of each spot given up, white in the pixels."""


@dataclass(frozen=True)
class Damage(Rectangle):
    """A rectangle, in pixels at the model's mpp, that is not analysed: it cannot be read, and why."""

    reason: str = field(compare=False)


@dataclass(frozen=True, eq=False)
class ReadTile:
    """A tile's pixels with their margins, uint8 (H + 2 margin, W + 2 margin, 3), white where they cannot be read."""

    tile: Tile
    pixels: np.ndarray
    damages: list[Damage]


class TileReader:
    """Reads tiles with their true surroundings.

    Tiles are put together from blocks on a grid of the whole slide, so that neighbours share those of their margins: at
    1,024 pixels a tile and a margin of 96, four tenths of all pixels would else be read and resampled twice.

    Args:
        slide: the slide; outside it all is white.
        grid: its tiles.
        margin: pixels round each tile.
        mpp: the model's.
    """

    def __init__(self, slide: Slide, grid: TileGrid, margin: int, mpp: float) -> None:
        self.slide, self.grid, self.margin, self.mpp = slide, grid, margin, mpp
        rows, columns = ((side + 2 * margin) // BLOCK_PX + 2 for side in grid.tile_px)
        self._most = 2 * rows * columns  # blocks that are kept: those of two tiles
        self._blocks: OrderedDict[tuple[int, int], Future[ContainedRead]] = OrderedDict()
        self._lock = Lock()

    def read_ahead(self, tiles: list[Tile], threads: int, ahead: int) -> Iterator[ReadTile]:
        """Read tiles in their order; at most `ahead` of them are in memory or under way."""
        pending, under_way = iter(tiles), deque[Future[ReadTile]]()
        with ThreadPoolExecutor(max(1, threads)) as pool:
            try:
                while True:
                    under_way.extend(pool.submit(self.read, tile) for tile in islice(pending, ahead - len(under_way)))
                    if not under_way:
                        return
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()

    def read(self, tile: Tile) -> ReadTile:
        left, top = tile.x_px - self.margin, tile.y_px - self.margin
        width, height = (side + 2 * self.margin for side in self.grid.tile_px)
        pixels, damages = np.empty((height, width, 3), np.uint8), []
        for y in range(top // BLOCK_PX * BLOCK_PX, top + height, BLOCK_PX):
            for x in range(left // BLOCK_PX * BLOCK_PX, left + width, BLOCK_PX):
                block, bad = self._block(x, y)
                _paste(pixels, block, x - left, y - top)
                damages += [self._damage(*spot) for spot in bad]
        return ReadTile(tile, pixels, damages)

    def _block(self, x: int, y: int) -> "ContainedRead":
        """A block from the cache; the thread that asks first reads it, others wait for it."""
        with self._lock:
            future, mine = self._blocks.get((x, y)), False
            if future is None:
                future, mine = Future(), True
                self._blocks[x, y] = future
                while len(self._blocks) > self._most:
                    self._blocks.popitem(last=False)
        if mine:
            try:
                future.set_result(read_contained(self.slide, (x, y), (BLOCK_PX, BLOCK_PX), self.mpp))
            except BaseException as error:
                future.set_exception(error)
                raise
        return future.result()

    def _damage(self, x: int, y: int, reason: str) -> Damage:
        """An unreadable spot and all pixels whose surroundings it belongs to, within the slide."""
        (slide_width, slide_height), margin = self.grid.size_px, self.margin
        x0, y0 = max(0, x - margin), max(0, y - margin)
        x1, y1 = min(slide_width, x + SPOT_PX + margin), min(slide_height, y + SPOT_PX + margin)
        return Damage(x0, y0, x1 - x0, y1 - y0, reason)


def read_contained(
    slide: Slide, origin_px: tuple[int, int], size_px: tuple[int, int], mpp: float, spot: int = SPOT_PX
) -> ContainedRead:
    """Read a region, white where it cannot be read.

    Args:
        slide, origin_px, size_px, mpp: as for `Slide.read_region_px`.
        spot: side of the squares, on a grid from the slide's corner, that are given up one by one.
    """
    try:
        return slide.read_region_px(origin_px, size_px, mpp), []
    except SlideError:
        pass
    (left, top), (width, height) = origin_px, size_px
    pixels, bad = np.full((height, width, 3), 255, np.uint8), []
    for y in range(top // spot * spot, top + height, spot):
        for x in range(left // spot * spot, left + width, spot):
            try:
                _paste(pixels, slide.read_region_px((x, y), (spot, spot), mpp), x - left, y - top)
            except SlideError as error:
                bad.append((x, y, str(error)))
    return pixels, bad


def _paste(pixels: np.ndarray, part: np.ndarray, x: int, y: int) -> None:
    """Put a part at (x, y), cut off at the borders."""
    part = part[max(0, -y) : pixels.shape[0] - y, max(0, -x) : pixels.shape[1] - x]
    top, left = max(0, y), max(0, x)
    pixels[top : top + part.shape[0], left : left + part.shape[1]] = part
