"""Read the tiles of a slide ahead of the network, in threads, and contain what cannot be read."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from wsi_hf.inference.tiling import Tile, TileGrid
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.slide import Slide

BLOCK_PX = 64
"""Side of the blocks in which an unreadable region is read again, so that a corrupt spot costs no whole tile."""


@dataclass(frozen=True)
class Damage:
    """A rectangle of the slide, in pixels at the model's mpp, that is not analysed: it cannot be read, and why."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    reason: str = field(compare=False)

    @property
    def rows(self) -> slice:
        return slice(self.y_px, self.y_px + self.height_px)

    @property
    def columns(self) -> slice:
        return slice(self.x_px, self.x_px + self.width_px)


@dataclass(frozen=True, eq=False)
class ReadTile:
    """A tile's pixels with their margins, uint8 (H + 2 margin, W + 2 margin, 3), white where they cannot be read."""

    tile: Tile
    pixels: np.ndarray
    damages: list[Damage]


class TileReader:
    """Reads tiles with their true surroundings.

    Args:
        slide: the slide; outside it all is white.
        grid: its tiles.
        margin: pixels round each tile.
        mpp: the model's.
    """

    def __init__(self, slide: Slide, grid: TileGrid, margin: int, mpp: float) -> None:
        self.slide, self.grid, self.margin, self.mpp = slide, grid, margin, mpp

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
        corner = tile.x_px - self.margin, tile.y_px - self.margin
        width, height = (side + 2 * self.margin for side in self.grid.tile_px)
        pixels, bad = read_contained(self.slide, corner, (width, height), self.mpp)
        return ReadTile(tile, pixels, [self._damage(x, y, reason) for x, y, reason in bad])

    def _damage(self, x: int, y: int, reason: str) -> Damage:
        """An unreadable block and all pixels whose surroundings it belongs to, within the slide."""
        (slide_width, slide_height), margin = self.grid.size_px, self.margin
        x0, y0 = max(0, x - margin), max(0, y - margin)
        x1, y1 = min(slide_width, x + BLOCK_PX + margin), min(slide_height, y + BLOCK_PX + margin)
        return Damage(x0, y0, x1 - x0, y1 - y0, reason)


def read_contained(
    slide: Slide, origin_px: tuple[int, int], size_px: tuple[int, int], mpp: float, block: int = BLOCK_PX
) -> tuple[np.ndarray, list[tuple[int, int, str]]]:
    """Read a region, white where it cannot be read.

    Args:
        slide, origin_px, size_px, mpp: as for `Slide.read_region_px`.
        block: side of the squares, on a grid from the slide's corner, that are given up one by one.

    Returns:
        uint8 (height, width, 3), and (x, y, reason) of each block given up.
    """
    try:
        return slide.read_region_px(origin_px, size_px, mpp), []
    except SlideError:
        pass
    (left, top), (width, height) = origin_px, size_px
    pixels, bad = np.full((height, width, 3), 255, np.uint8), []
    for y in range(top // block * block, top + height, block):
        for x in range(left // block * block, left + width, block):
            try:
                part = slide.read_region_px((x, y), (block, block), mpp)
            except SlideError as error:
                bad.append((x, y, str(error)))
                continue
            y_in, x_in = max(0, top - y), max(0, left - x)
            part = part[y_in : top + height - y, x_in : left + width - x]
            pixels[y + y_in - top :, x + x_in - left :][: part.shape[0], : part.shape[1]] = part
    return pixels, bad
