"""What segmenting a slide will take, measured on one tile."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from wsi_hf.inference.memory import largest_tile
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.streaming import parts
from wsi_hf.inference.tiling import TileGrid
from wsi_hf.slides.slide import Slide


@dataclass(frozen=True)
class Estimate:
    """tiles with tissue of all tiles; megapixels to compute; seconds of computing, without reading; bytes of memory."""

    tiles: int
    all_tiles: int
    megapixels: float
    seconds: float
    memory_bytes: int


def estimate(network: PixelNetwork, slide: Slide, tissue: np.ndarray | None, tile_size: int | None = None) -> Estimate:
    """Estimate time and memory from the speed of one tile of noise.

    Args:
        tissue: mask (H, W) that spans the slide; None for all of it.
        tile_size: as for `segment_slide`.
    """
    tile_size = tile_size or largest_tile(network)
    grid = TileGrid.cover(slide.size_px(network.mpp), tile_size, network.alignment)
    computed, (width, height) = parts(network, grid, tissue), grid.tile_px
    megapixels = sum(part.width_px * part.height_px for part in computed) / 1e6
    tiles = len(grid.tiles(tissue))
    size = (1, height + 2 * network.margin, width + 2 * network.margin, 3)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8)
    network(pixels[:, : size[1] - height + network.alignment])  # warm up
    start = time.perf_counter()
    network(pixels).sum().item()  # waits for the device
    seconds = (time.perf_counter() - start) * megapixels / (width * height / 1e6)
    memory = size[1] * size[2] * network.bytes_per_pixel()
    return Estimate(tiles, len(grid.tiles()), megapixels, seconds, memory)
