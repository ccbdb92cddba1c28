"""A slide's logits, tile by tile: read ahead, normalised on the device, computed with their true surroundings."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from wsi_hf.inference.blending import blend
from wsi_hf.inference.memory import largest_tile
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.reading import Damage, ReadTile, TileReader, read_contained
from wsi_hf.inference.tiling import Tile, TileGrid
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue import find_tissue, find_tissue_in

logger = logging.getLogger(__name__)

Tissue = Literal["auto"] | np.ndarray | None
"""Where to look: found by itself; a bool mask (H, W) of any resolution that spans the whole slide; everywhere."""

TISSUE_MPP = 8.0


@dataclass(frozen=True, eq=False)
class SegmentedTile:
    """The logits of one tile, cut off at the slide's border.

    x_px, y_px: its corner, in pixels at the model's mpp. logits: float32 (2, h, w), on the device.
    tissue: the pixels that are tissue and could be read, bool (h, w), on the device.
    """

    x_px: int
    y_px: int
    logits: Tensor
    tissue: Tensor


def stream_tiles(
    model: PreTrainedModel | PixelNetwork,
    slide: Slide,
    *,
    image_processor: WsiImageProcessor | None = None,
    tissue: Tissue = "auto",
    tile_size: int | None = None,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    num_workers: int = 2,
    on_damage: Callable[[Damage], None] | None = None,
) -> Iterator[SegmentedTile]:
    """Yield the logits of a slide tile by tile, in row-major order, where there is tissue.

    Each tile is computed with its true surroundings and equals the same cut-out of one forward pass over the whole
    slide, padded with white. Nothing is written and nothing leaves the device. Networks other than this package's U-Net
    have no such finite surroundings: their tiles overlap and are blended.

    Args:
        model: a model, left as it was, or a `PixelNetwork` made of it once for many slides (then image_processor,
            device and dtype are not taken).
        slide: an open slide; it is read at the image processor's mpp (the model's), whatever its own.
        tissue: see `Tissue`. A mask without any tissue warns, and the whole slide is taken.
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
    grid = TileGrid.cover(slide.size_px(network.mpp), tile_size or largest_tile(network, batch_size), network.alignment)
    reader = TileReader(slide, grid, network.margin, network.mpp)
    damages: set[Damage] = set()
    reads = reader.read_ahead(grid.tiles(mask), num_workers, ahead=batch_size + num_workers)
    for tile, logits in _segment(network, grid, _contained(reads, damages, on_damage), batch_size):
        yield SegmentedTile(
            tile.x_px,
            tile.y_px,
            logits[:, : tile.height_px, : tile.width_px],
            torch.from_numpy(_analysed(grid, tile, mask, damages)).to(logits.device),
        )


def tissue_mask(slide: Slide, tissue: Tissue) -> np.ndarray | None:
    """The mask to work with; None, with a warning, where a mask holds no tissue at all."""
    mask = _find_tissue(slide) if isinstance(tissue, str) else tissue
    if mask is None or mask.any():
        return mask
    logger.warning("%s: no tissue in the mask; the whole slide is taken instead", slide.slide_id)
    return None


def _find_tissue(slide: Slide) -> np.ndarray:
    """Tissue, and what cannot be read at all, so that it comes up as not analysed."""
    try:
        return find_tissue(slide)
    except SlideError:
        image, bad = read_contained(slide, (0, 0), slide.size_px(TISSUE_MPP), TISSUE_MPP, spot=16)
        mask = find_tissue_in(image, TISSUE_MPP)
        for x, y, _ in bad:
            mask[y : y + 16, x : x + 16] = True
        return mask


def _contained(
    reads: Iterable[ReadTile], damages: set[Damage], on_damage: Callable[[Damage], None] | None
) -> Iterator[ReadTile]:
    """Pass tiles on; collect their damages and tell of each new one."""
    for read in reads:
        for damage in read.damages:
            if on_damage is None:
                raise SlideError(damage.reason)
            if damage not in damages:
                damages.add(damage)
                on_damage(damage)
        yield read


def _segment(
    network: PixelNetwork, grid: TileGrid, reads: Iterator[ReadTile], batch_size: int
) -> Iterator[tuple[Tile, Tensor]]:
    """Run the network over tiles, a batch at a time: (tile, logits (2, H, W))."""
    tiles = _forward(network, reads, batch_size)
    return tiles if network.exact else blend(tiles, grid, network.margin)


def _forward(network: PixelNetwork, reads: Iterator[ReadTile], batch_size: int) -> Iterator[tuple[Tile, Tensor]]:
    while batch := list(islice(reads, batch_size)):
        pixels = torch.from_numpy(np.stack([read.pixels for read in batch]))
        for read, logits in zip(batch, network(pixels), strict=True):
            yield read.tile, logits


def _analysed(grid: TileGrid, tile: Tile, mask: np.ndarray | None, damages: set[Damage]) -> np.ndarray:
    """Which pixels of a tile are tissue and could be read, bool (h, w)."""
    analysed = np.ones((tile.height_px, tile.width_px), bool) if mask is None else grid.tissue_of(tile, mask)
    for damage in damages:
        top, left = max(0, damage.y_px - tile.y_px), max(0, damage.x_px - tile.x_px)
        bottom, right = damage.y_px + damage.height_px - tile.y_px, damage.x_px + damage.width_px - tile.x_px
        analysed[top : max(0, bottom), left : max(0, right)] = False
    return analysed
