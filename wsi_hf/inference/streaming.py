"""A slide's logits, tile by tile: read ahead, normalised on the device, computed with their true surroundings."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from wsi_hf.inference.blending import blend
from wsi_hf.inference.memory import largest_tile
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.reading import Damage, ReadAhead, ReadTile, TileReader
from wsi_hf.inference.tiling import Tile, TileGrid
from wsi_hf.inference.tissue import Tissue, tissue_cell, tissue_mask
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.slide import Slide


@dataclass(frozen=True, eq=False)
class SegmentedTile:
    """The logits of one tile, or of the part of one that holds tissue, cut off at the slide's border.

    x_px, y_px: its corner, in pixels at the model's mpp. logits: float32 (2, h, w), on the device.
    tissue: the pixels that are tissue and could be read, bool (h, w), on the device. index: the tile's place in its
    grid; parts of one tile follow each other.
    """

    x_px: int
    y_px: int
    logits: Tensor
    tissue: Tensor
    index: int = 0


def stream_tiles(
    model: PreTrainedModel | PixelNetwork,
    slide: Slide,
    *,
    image_processor: WsiImageProcessor | None = None,
    tissue: Tissue = "auto",
    cell_px: float | None = None,
    tile_size: int | None = None,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    num_workers: int = 2,
    on_damage: Callable[[Damage], None] | None = None,
) -> Iterator[SegmentedTile]:
    """Yield the logits of a slide tile by tile, in row-major order, where there is tissue: of a tile that is tissue in
    part, the rectangles that hold it.

    Each tile is computed with its true surroundings and equals the same cut-out of one forward pass over the whole
    slide, padded with white. Nothing is written and nothing leaves the device. Networks other than this package's U-Net
    have no such finite surroundings: their tiles overlap and are blended.

    Args:
        model: a model, left as it was, or a `PixelNetwork` made of it once for many slides (then image_processor,
            device and dtype are not taken).
        slide: an open slide; it is read at the image processor's mpp (the model's), whatever its own.
        tissue: see `Tissue`. A mask without any tissue warns, and the whole slide is taken.
        cell_px: side of the cells of a given mask in pixels at the model's mpp; None: it spans the whole slide.
        tile_size: longest side of a tile in pixels at the model's mpp, rounded up to the network's alignment; by
            default from the memory at hand.
        batch_size: tiles a forward pass.
        num_workers: threads that read ahead.
        on_damage: told of every rectangle that cannot be read, once; by default the first one raises.

    Raises:
        SlideError: the slide cannot be read, and nobody is told.
    """
    network = model if isinstance(model, PixelNetwork) else PixelNetwork(model, image_processor, device, dtype)
    mask = tissue_mask(slide, tissue)
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        tiles = TileStream(
            network, slide, mask, tile_size or largest_tile(network, batch_size), pool,
            batch_size=batch_size, ahead=batch_size + num_workers, on_damage=on_damage,
            cell_px=tissue_cell(tissue, network.mpp) or cell_px,
        )  # fmt: skip
        try:
            yield from tiles
        finally:
            tiles.close()


class TileStream:
    """A slide's logits, part by part; read from the moment that this is made, computed as they are asked for.

    Of an exact network's tiles only the rectangles that hold tissue are computed.

    Args:
        network, slide: as for `stream_tiles`.
        mask: where there is tissue; None for all of it.
        tile_size: longest side of a tile.
        pool: threads that read.
        batch_size: tiles a forward pass, where neighbours in the stream are of one size.
        ahead: tiles that are in memory or under way at most.
        on_damage, cell_px: as for `stream_tiles`.
    """

    def __init__(
        self,
        network: PixelNetwork,
        slide: Slide,
        mask: np.ndarray | None,
        tile_size: int,
        pool: ThreadPoolExecutor,
        *,
        batch_size: int = 1,
        ahead: int = 2,
        on_damage: Callable[[Damage], None] | None = None,
        cell_px: float | None = None,
    ) -> None:
        self.network, self.mask, self.batch_size, self._on_damage = network, mask, batch_size, on_damage
        self.grid = TileGrid.cover(slide.size_px(network.mpp), tile_size, network.alignment, cell_px)
        self.tiles = parts(network, self.grid, mask)
        step = network.alignment if network.exact else None
        reader = TileReader(slide, self.grid, network.margin, network.mpp, self.tiles, step)
        self._reads = ReadAhead(reader, pool, ahead)
        self._damages: set[Damage] = set()

    @property
    def all_asked(self) -> bool:
        """Whether the threads have been asked for the last tile."""
        return self._reads.all_asked

    def __iter__(self) -> Iterator[SegmentedTile]:
        tiles = _forward(self.network, self._contained(), self.batch_size)
        for tile, logits in tiles if self.network.exact else blend(tiles, self.grid, self.network.margin):
            analysed = torch.from_numpy(_analysed(self.grid, tile, self.mask, self._damages)).to(logits.device)
            logits = logits[:, : tile.height_px, : tile.width_px]
            yield SegmentedTile(tile.x_px, tile.y_px, logits, analysed, tile.index)

    def close(self) -> None:
        """Read no more."""
        self._reads.close()

    def _contained(self) -> Iterator[ReadTile]:
        """Pass tiles on; collect their damages and tell of each new one."""
        for read in self._reads:
            for damage in read.damages:
                if self._on_damage is None:
                    raise SlideError(damage.reason)
                if damage not in self._damages:
                    self._damages.add(damage)
                    self._on_damage(damage)
            yield read


def parts(network: PixelNetwork, grid: TileGrid, mask: np.ndarray | None) -> list[Tile]:
    """What is computed of a slide: tiles fitted to the tissue; whole ones where they are blended."""
    return list(grid.fitted(mask, network.alignment, network.cost)) if network.exact else grid.tiles(mask)


def whole_tiles(stream: Iterable[SegmentedTile], grid: TileGrid) -> Iterator[SegmentedTile]:
    """Put the parts of each tile together again; what was not computed is no tissue."""
    for index, group in groupby(stream, key=lambda part: part.index):
        tile, whole = grid.tile(index), None
        for part in group:
            if part.logits.shape[1:] == (tile.height_px, tile.width_px):
                whole = part
                break
            if whole is None:
                logits = part.logits.new_zeros(2, tile.height_px, tile.width_px)
                whole = SegmentedTile(tile.x_px, tile.y_px, logits, logits[0].bool(), index)
            rows, columns = (
                slice(at - corner, at - corner + size)
                for at, corner, size in zip(
                    (part.y_px, part.x_px), (tile.y_px, tile.x_px), part.logits.shape[1:], strict=True
                )
            )
            whole.logits[:, rows, columns], whole.tissue[rows, columns] = part.logits, part.tissue
        assert whole is not None
        yield whole


def _forward(network: PixelNetwork, reads: Iterable[ReadTile], batch_size: int) -> Iterator[tuple[Tile, Tensor]]:
    """Run the network over tiles, as many of one size at once as a batch holds: (tile, logits (2, H, W)).

    Where it takes few sizes, tiles are filled up to one of them, white, and batches to their full number.
    """
    margins = 2 * network.margin

    def size(read: ReadTile) -> tuple[int, int]:
        height, width = network.filled(np.array(read.pixels.shape[:2]) - margins) + margins
        return int(height), int(width)

    for (height, width), same in groupby(reads, key=size):
        while batch := list(islice(same, batch_size)):
            number = batch_size if network.few_sizes else len(batch)
            pixels = np.full((number, height, width, 3), 255, np.uint8)
            for place, read in zip(pixels, batch, strict=False):
                place[: read.pixels.shape[0], : read.pixels.shape[1]] = read.pixels
            for read, logits in zip(batch, network(torch.from_numpy(pixels)), strict=False):
                rows, columns = read.pixels.shape[:2]
                yield read.tile, logits[:, : rows - height or None, : columns - width or None]


def _analysed(grid: TileGrid, tile: Tile, mask: np.ndarray | None, damages: set[Damage]) -> np.ndarray:
    """Which pixels of a tile are tissue and could be read, bool (h, w)."""
    analysed = np.ones((tile.height_px, tile.width_px), bool) if mask is None else grid.tissue_of(tile, mask)
    for damage in damages:
        top, left = max(0, damage.y_px - tile.y_px), max(0, damage.x_px - tile.x_px)
        bottom, right = damage.y_px + damage.height_px - tile.y_px, damage.x_px + damage.width_px - tile.x_px
        analysed[top : max(0, bottom), left : max(0, right)] = False
    return analysed
