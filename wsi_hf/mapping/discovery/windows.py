"""The windows of a slide that discovery describes: one round each block of its tissue."""

import logging
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from wsi_hf.inference.reading import TileReader
from wsi_hf.inference.tiling import Tile, TileGrid
from wsi_hf.mapping.discovery.finders import Finder
from wsi_hf.mapping.discovery.tissue_kinds import BLOCK_PX
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.sampling.map_store import MapEntry
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.probability_map import ProbabilityMap
from wsi_hf.sampling.unreadable import retried
from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

LOOKED_AT = 32
"""Slides that principal components are computed from."""


def samples(settings: MappingSettings, entries: list[MapEntry], finder: Finder) -> Iterator[Tensor]:
    """The middle tile of some slides' tissue, of any, with the finder's margin."""
    some = np.random.default_rng([settings.seed, 8]).permutation(len(entries))[:LOOKED_AT]
    for number in tqdm(some, "Looking at tissue", unit="slide"):
        info, entry = settings.slides[number], entries[number]
        reader, _, _ = _reader(settings, info, entry, finder)
        if reader.tiles:
            read = partial(reader.read, reader.tiles[len(reader.tiles) // 2])
            yield torch.from_numpy(retried(read, info.slide_id).pixels)


def describe(settings: MappingSettings, number: int, entry: MapEntry, folder: Path, finder: Finder) -> np.ndarray:
    """What a slide's windows look like, (n, F); kept on the disk, float16."""
    info, parts, damages = settings.slides[number], [], 0
    reader, grid, tissue = _reader(settings, info, entry, finder)
    for read in map(reader.read, reader.tiles):
        described = finder.describe(torch.from_numpy(read.pixels)).numpy()
        parts.append(described[blocks_of(grid, grid.tile(read.tile.index), tissue)])
        damages += len(read.damages)
    if damages:
        logger.warning("%s: %d spots cannot be read and count as white", info.slide_id, damages)
    windows = np.concatenate(parts)
    if not len(windows):
        return windows
    path = folder / f"{number}.npy"
    np.save(path, (windows - np.median(windows, axis=0) if finder.relative else windows).astype(np.float16))
    return np.load(path, mmap_mode="r")


def centres(settings: MappingSettings, probability_map: ProbabilityMap) -> np.ndarray:
    """Where a slide's windows lie, (n, 2) as (x, y) in model pixels, in the order of `describe`."""
    tissue, grid = probability_map.tissue(), window_grid(settings, probability_map.size_px)
    parts = [
        (np.argwhere(blocks_of(grid, tile, tissue))[:, ::-1] + 0.5) * BLOCK_PX + (tile.x_px, tile.y_px)
        for tile in grid.tiles(tissue)
    ]
    return np.concatenate(parts)


def window_grid(settings: MappingSettings, size_px: tuple[int, int]) -> TileGrid:
    alignment = math.lcm(BLOCK_PX, settings.map_stride)
    return TileGrid.cover(size_px, settings.tile_size, alignment, settings.map_stride)


def blocks_of(grid: TileGrid, tile: Tile, tissue: np.ndarray) -> np.ndarray:
    """Which blocks of a tile have their centre on tissue, bool (rows, columns)."""
    width, height = grid.tile_px
    inside = np.zeros((height, width), bool)
    inside[: tile.height_px, : tile.width_px] = grid.tissue_of(tile, tissue)
    return inside[BLOCK_PX // 2 :: BLOCK_PX, BLOCK_PX // 2 :: BLOCK_PX]


def _reader(
    settings: MappingSettings, info: TrainingSlide, entry: MapEntry, finder: Finder
) -> tuple[TileReader, TileGrid, np.ndarray]:
    """What reads a slide's tiles for the finder, each of them `zoom` times as large; their grid; the tissue."""
    tissue, slide, zoom = settings.store.load_map(entry.file).tissue(), Slide(info.path, mpp=info.mpp), finder.zoom
    grid = window_grid(settings, slide.size_px(settings.mpp))
    (width, height), (tile_width, tile_height) = grid.size_px, grid.tile_px
    large = TileGrid((zoom * width, zoom * height), (zoom * tile_width, zoom * tile_height))
    tiles = [large.tile(tile.index) for tile in grid.tiles(tissue)]
    return TileReader(slide, large, finder.margin_blocks * BLOCK_PX * zoom, settings.mpp / zoom, tiles), grid, tissue
