"""The maps before any model has seen a slide: its tissue, and if asked for, the kinds of tissue to look at first."""

import json
import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tqdm.auto import tqdm

from ..inference.reading import TileReader
from ..inference.streaming import tissue_mask
from ..inference.tiling import Tile, TileGrid
from ..sampling.map_store import Round
from ..sampling.patch_dataset import TrainingSlide
from ..sampling.probability_map import ProbabilityMap, ProbabilityMapBuilder, default_map
from ..sampling.tissue_kinds import BLOCK_PX, background, malignancy, texture
from ..slides.slide import Slide, SlideError
from .discovery_picture import draw_discovery
from .mapping import MappingSettings

logger = logging.getLogger(__name__)


def prepare(settings: MappingSettings) -> None:
    """Find the tissue of every slide, and the kinds of tissue where rounds shall follow them; publish it as round -1.

    Raises:
        SlideError: slides that cannot be read; all of them are named.
    """
    store = settings.store
    if store.index_path(-1).exists():
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda info: _default_map_or_error(settings, info), settings.slides)
        results = list(tqdm(made, desc="Finding tissue", total=len(settings.slides), unit="slide"))
    errors = [result for result in results if isinstance(result, Exception)]
    if errors:
        listing = "\n".join(f"  {error}" for error in errors)
        raise SlideError(f"{len(errors)} of {len(results)} training slides cannot be used:\n{listing}")
    maps = discover(settings, results) if settings.discovery_rounds else results
    store.publish(-1, Round([store.save_map(probability_map, -1) for probability_map in maps]))


def discover(settings: MappingSettings, maps: list[ProbabilityMap]) -> list[ProbabilityMap]:
    """Raise Q where tissue is of a kind that malignant slides hold more of; see `sampling.tissue_kinds`."""
    labels = np.array([slide.label for slide in settings.slides])
    with TemporaryDirectory(dir=settings.folder) as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        described = pool.map(
            lambda number: _describe(settings, number, maps[number].tissue(), Path(folder)), range(len(maps))
        )
        features = list(tqdm(described, desc="Describing tissue", total=len(maps), unit="slide"))
        q, found = malignancy(features, labels, settings.seed)
        del features
    if not found:
        logger.warning(
            "no kind of tissue is significantly commoner in the malignant slides: the first patches are drawn "
            "uniformly. More slides make rarer tumour significant"
        )
        return maps
    elsewhere = background(q, labels, settings.alpha)
    share = [float(np.mean(np.concatenate([q[s] for s in np.flatnonzero(labels == c)]) > 0.5)) for c in (0, 1)]
    facts = {"kinds_found": found, "share_of_benign_tissue": share[0], "share_of_malignant_tissue": share[1]}
    (Path(settings.folder) / "discovery.json").write_text(json.dumps(facts))
    picture = Path(settings.folder).parent / "discovery.png"
    draw_discovery(settings, [_centres(settings, probability_map) for probability_map in maps], q, picture)
    logger.info(
        "%d kinds of tissue are commoner in the malignant slides: %.2f %% of their tissue, %.2f %% of benign slides'; "
        "look at %s",
        *(found, 100 * share[1], 100 * share[0], picture),
    )
    return [
        _raised(settings, probability_map, np.where(windows > 0.5, windows, elsewhere), elsewhere)
        for probability_map, windows in zip(maps, q, strict=True)
    ]


def _describe(settings: MappingSettings, number: int, tissue: np.ndarray, folder: Path) -> np.ndarray:
    """The texture of a slide's windows, relative to their median, (n, F); kept on the disk, float16."""
    info = settings.slides[number]
    slide = Slide(info.path, mpp=info.mpp)
    grid = _grid(settings, slide.size_px(settings.mpp))
    reads = TileReader(slide, grid, BLOCK_PX, settings.mpp).read_ahead(grid.tiles(tissue), threads=1, ahead=2)
    parts = [texture(torch.from_numpy(read.pixels)).numpy()[_blocks(grid, read.tile, tissue)] for read in reads]
    windows = np.concatenate(parts)
    path = folder / f"{number}.npy"
    np.save(path, (windows - np.median(windows, axis=0)).astype(np.float16))
    return np.load(path, mmap_mode="r")


def _raised(settings: MappingSettings, old: ProbabilityMap, q: np.ndarray, elsewhere: float) -> ProbabilityMap:
    """A slide's map with the Q of its windows, (n,), in the order of `_describe`."""
    tissue, start = old.tissue(), 0
    builder = ProbabilityMapBuilder(
        old.slide_id, old.size_px, old.mpp, tissue, settings.alpha, settings.map_stride, settings.tile_size, -1
    )
    grid = _grid(settings, old.size_px)
    for tile in grid.tiles(tissue):
        blocks = _blocks(grid, tile, tissue)
        values = np.full(blocks.shape, elsewhere)
        values[blocks] = q[start : start + blocks.sum()]
        start += int(blocks.sum())
        pixels = torch.from_numpy(values).logit().repeat_interleave(BLOCK_PX, 0).repeat_interleave(BLOCK_PX, 1)
        builder.add(tile.x_px, tile.y_px, pixels[: tile.height_px, : tile.width_px])
    return builder.finish()


def _centres(settings: MappingSettings, probability_map: ProbabilityMap) -> np.ndarray:
    """Where a slide's windows lie, (n, 2) as (x, y) in model pixels, in the order of `_describe`."""
    tissue, grid = probability_map.tissue(), _grid(settings, probability_map.size_px)
    parts = [
        (np.argwhere(_blocks(grid, tile, tissue))[:, ::-1] + 0.5) * BLOCK_PX + (tile.x_px, tile.y_px)
        for tile in grid.tiles(tissue)
    ]
    return np.concatenate(parts)


def _grid(settings: MappingSettings, size_px: tuple[int, int]) -> TileGrid:
    return TileGrid.cover(size_px, settings.tile_size, math.lcm(BLOCK_PX, settings.map_stride))


def _blocks(grid: TileGrid, tile: Tile, tissue: np.ndarray) -> np.ndarray:
    """Which blocks of a tile have their centre on tissue, bool (rows, columns)."""
    width, height = grid.tile_px
    inside = np.zeros((height, width), bool)
    inside[: tile.height_px, : tile.width_px] = grid.tissue_of(tile, tissue)
    return inside[BLOCK_PX // 2 :: BLOCK_PX, BLOCK_PX // 2 :: BLOCK_PX]


def _default_map_or_error(settings: MappingSettings, info: TrainingSlide) -> ProbabilityMap | Exception:
    try:
        slide = Slide(info.path, mpp=info.mpp)
        tissue = tissue_mask(slide, "auto" if settings.tissue == "auto" else None)
        return default_map(
            info.slide_id, slide.size_px(settings.mpp), settings.mpp, tissue, settings.alpha, settings.map_stride,
            settings.tile_size,
        )  # fmt: skip
    except (SlideError, OSError) as error:
        return error
