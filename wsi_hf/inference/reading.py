"""Read the tiles of a slide ahead of the network, in threads, and contain what cannot be read."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from wsi_hf.inference.tiling import Rectangle, Tile, TileGrid
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.slide import Slide

BLOCK_PX = 256
"""Side of the blocks that tiles are put together from."""
CACHE_BYTES = 2**27
"""Of blocks kept for the tiles below: more than those of a row of tiles across the widest slides."""
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
    1,024 pixels a tile and a margin of 96, four tenths of all pixels would else be read and resampled twice. A block is
    kept until the last tile has it, unless that takes more than `CACHE_BYTES`.

    Args:
        slide: the slide; outside it all is white.
        grid: the grid of the tiles.
        margin: pixels round each tile.
        mpp: the model's.
        tiles: what will be read, each once.
        step: a tile that the slide's border cuts off is read up to the next multiple of so many pixels; by default a
            whole tile of the grid.
    """

    def __init__(
        self, slide: Slide, grid: TileGrid, margin: int, mpp: float, tiles: list[Tile], step: int | None = None
    ) -> None:
        self.slide, self.grid, self.margin, self.mpp, self.tiles, self.step = slide, grid, margin, mpp, tiles, step
        self._uses = Counter(corner for tile in tiles for corner in self._corners(tile))
        self._blocks: OrderedDict[tuple[int, int], Future[ContainedRead]] = OrderedDict()
        self._lock = Lock()

    def read(self, tile: Tile) -> ReadTile:
        left, top, width, height = self._window(tile)
        pixels, damages = np.empty((height, width, 3), np.uint8), []
        blocks = [
            (corner, self._block(*corner)) for corner in self._corners(tile)
        ]  # other threads' are waited for last
        for (x, y), future in blocks:
            block, bad = future.result()
            _paste(pixels, block, x - left, y - top)
            damages += [self._damage(*spot) for spot in bad]
        return ReadTile(tile, pixels, damages)

    def _window(self, tile: Tile) -> tuple[int, int, int, int]:
        """(left, top, width, height) of a tile with its margins."""
        width, height = self.grid.tile_px
        if self.step is not None:
            width, height = (-(-side // self.step) * self.step for side in (tile.width_px, tile.height_px))
        margin = self.margin
        return tile.x_px - margin, tile.y_px - margin, width + 2 * margin, height + 2 * margin

    def _corners(self, tile: Tile) -> list[tuple[int, int]]:
        """The corners of the blocks that a tile is put together from."""
        left, top, width, height = self._window(tile)
        rows = range(top // BLOCK_PX * BLOCK_PX, top + height, BLOCK_PX)
        return [(x, y) for y in rows for x in range(left // BLOCK_PX * BLOCK_PX, left + width, BLOCK_PX)]

    def _block(self, x: int, y: int) -> Future[ContainedRead]:
        """A block of the cache; the thread that asks first reads it."""
        with self._lock:
            future, mine = self._blocks.get((x, y)), False
            if future is None:
                future, mine = Future(), True
                self._blocks[x, y] = future
                while len(self._blocks) > CACHE_BYTES // (3 * BLOCK_PX**2):
                    self._blocks.popitem(last=False)
            self._uses[x, y] -= 1
            if self._uses[x, y] <= 0:
                self._blocks.pop((x, y), None)
        if mine:
            try:
                future.set_result(read_contained(self.slide, (x, y), (BLOCK_PX, BLOCK_PX), self.mpp))
            except BaseException as error:
                future.set_exception(error)
                raise
        return future

    def _damage(self, x: int, y: int, reason: str) -> Damage:
        """An unreadable spot and all pixels whose surroundings it belongs to, within the slide."""
        (slide_width, slide_height), margin = self.grid.size_px, self.margin
        x0, y0 = max(0, x - margin), max(0, y - margin)
        x1, y1 = min(slide_width, x + SPOT_PX + margin), min(slide_height, y + SPOT_PX + margin)
        return Damage(x0, y0, x1 - x0, y1 - y0, reason)


class ReadAhead(Iterator[ReadTile]):
    """A reader's tiles in their order, read in the threads of a pool from the moment that this is made.

    Args:
        ahead: tiles that are in memory or under way at most.
    """

    def __init__(self, reader: TileReader, pool: ThreadPoolExecutor, ahead: int) -> None:
        self.reader, self.pool, self.ahead = reader, pool, ahead
        self._pending, self._under_way = deque(reader.tiles), deque[Future[ReadTile]]()
        self._ask()

    @property
    def all_asked(self) -> bool:
        """Whether no tile is left that no thread has been asked for: time to begin with the next slide."""
        return not self._pending

    def __next__(self) -> ReadTile:
        self._ask()
        if not self._under_way:
            raise StopIteration
        return self._under_way.popleft().result()

    def close(self) -> None:
        """Read no more."""
        self._pending.clear()
        for future in self._under_way:
            future.cancel()

    def _ask(self) -> None:
        while self._pending and len(self._under_way) < self.ahead:
            self._under_way.append(self.pool.submit(self.reader.read, self._pending.popleft()))


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
