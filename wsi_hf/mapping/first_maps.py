"""The maps before any model has seen a slide: its tissue, and if asked for, the kinds of tissue to look at first."""

import dataclasses
import json
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from wsi_hf.inference.tissue import tissue_cell, tissue_mask
from wsi_hf.mapping.discovery.finders import finder_of
from wsi_hf.mapping.discovery.picture import draw_discovery
from wsi_hf.mapping.discovery.tissue_kinds import BLOCK_PX, attainable, background
from wsi_hf.mapping.discovery.windows import blocks_of, centres, describe, samples, window_grid
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.mapping.slide_queue import default_file
from wsi_hf.sampling.map_store import MapEntry, Round
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.probability_map import ProbabilityMap, ProbabilityMapBuilder, default_map
from wsi_hf.sampling.unreadable import retried
from wsi_hf.slides.replacing import write_text
from wsi_hf.slides.slide import Slide, SlideError

logger = logging.getLogger(__name__)

WITHOUT_TISSUE = "leave it out, give it a mask (column tissue), or train anywhere on the slides (--tissue none)"
WINDOWS = "windows"
"""Where descriptions of the tissue lie meanwhile."""


def prepare(settings: MappingSettings, device: torch.device | str = "cpu") -> None:
    """Find the tissue of every slide, and the kinds of tissue where rounds shall follow them; publish it as round -1.

    Args:
        device: where a pre-trained encoder runs, if one describes the tissue.

    Raises:
        SlideError: slides that cannot be read; all of them are named.
    """
    store = settings.store
    if store.index_path(-1).exists():
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda info: _first_map_or_error(settings, info), settings.slides)
        results = list(tqdm(made, desc="Finding tissue", total=len(settings.slides), unit="slide"))
    errors = [result for result in results if isinstance(result, Exception)]
    if errors:
        listing = "\n".join(f"  {error}" for error in errors)
        raise SlideError(f"{len(errors)} of {len(results)} training slides cannot be used:\n{listing}")
    for stale in (_facts(settings), _picture(settings)):
        stale.unlink(missing_ok=True)
    entries = [store.save_map(result, -1) for result in results]
    discovered = discover(settings, entries, device) if settings.discovery_rounds else None
    store.publish(-1, Round(entries))
    if discovered:
        _tell(settings, entries, *discovered)


def discover(
    settings: MappingSettings, entries: list[MapEntry], device: torch.device | str = "cpu"
) -> tuple[list[np.ndarray], int] | None:
    """Raise Q in the first maps where tissue is of a kind that malignant slides hold more of.

    See `discovery`. What steers the choice of slides, the sum of Q, stays as it is.

    Returns:
        Q of each slide's windows, (n,), and how many kinds were found; None if none was.
    """
    labels = np.array([slide.label for slide in settings.slides])
    if not attainable(labels) or not settings.alpha:
        logger.warning(
            "discovery needs a dozen slides of each class and alpha > 0: the first patches are drawn uniformly"
        )
        return None
    finder = finder_of(settings.discovery, settings.mpp, settings.discovery_encoder, device)
    finder.look_at(lambda: samples(settings, entries, finder))
    folder, numbers = Path(settings.folder) / WINDOWS, range(len(entries))
    folder.mkdir(exist_ok=True)
    try:
        with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
            described = pool.map(
                lambda n: retried(
                    lambda: describe(settings, n, entries[n], folder, finder), settings.slides[n].slide_id
                ),
                numbers,
            )
            features = list(tqdm(described, desc="Describing tissue", total=len(entries), unit="slide"))
        q, found = finder.malignancy(features, labels, settings.seed)
        del features
    finally:
        shutil.rmtree(folder)
    if not found:
        logger.warning(
            "no kind of tissue is significantly commoner in the malignant slides: the first patches are drawn "
            "uniformly. More slides make rarer tumour significant"
        )
        return None
    elsewhere = background(q, labels, settings.alpha)
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        raised = pool.map(lambda number: _raise(settings, entries[number], q[number], elsewhere), numbers)
        list(tqdm(raised, desc="Raising maps", total=len(entries), unit="slide"))
    return q, found


def _tell(settings: MappingSettings, entries: list[MapEntry], q: list[np.ndarray], found: int) -> None:
    """Write down and draw what was found."""
    shares = []
    for label in (0, 1):
        windows = [w for w, slide in zip(q, settings.slides, strict=True) if slide.label == label]
        shares.append(float(sum(np.sum(w > 0.5) for w in windows) / sum(map(len, windows))))
    facts = {"kinds_found": found, "share_of_benign_tissue": shares[0], "share_of_malignant_tissue": shares[1]}
    write_text(_facts(settings), json.dumps(facts))
    logger.info(
        "%d kinds of tissue are commoner in the malignant slides: %.2f %% of their tissue, %.2f %% of benign slides'; "
        "look at %s",
        *(found, 100 * shares[1], 100 * shares[0], _picture(settings)),
    )

    def centres_of(slide: int) -> np.ndarray:
        return centres(settings, settings.store.load_map(entries[slide].file))

    try:
        draw_discovery(settings, centres_of, q, _picture(settings))
    except (SlideError, OSError) as error:
        logger.warning("%s cannot be drawn: %s", _picture(settings), error)


def _facts(settings: MappingSettings) -> Path:
    return Path(settings.folder) / "discovery.json"


def _picture(settings: MappingSettings) -> Path:
    return Path(settings.folder).parent / "discovery.png"


def _raise(settings: MappingSettings, entry: MapEntry, q: np.ndarray, elsewhere: float) -> None:
    """Make a slide's first map again, with the Q of its windows, (n,), in the order of `describe`."""
    old, start = settings.store.load_map(entry.file), 0
    tissue, q = old.tissue(), np.where(q > 0.5, q, elsewhere)
    builder = ProbabilityMapBuilder(
        old.slide_id, old.size_px, old.mpp, tissue, settings.alpha, settings.map_stride, settings.tile_size, -1,
        settings.map_stride,
    )  # fmt: skip
    grid = window_grid(settings, old.size_px)
    for tile in grid.tiles(tissue):
        blocks = blocks_of(grid, tile, tissue)
        values = np.full(blocks.shape, elsewhere)
        values[blocks] = q[start : start + blocks.sum()]
        start += int(blocks.sum())
        pixels = torch.from_numpy(values).logit().repeat_interleave(BLOCK_PX, 0).repeat_interleave(BLOCK_PX, 1)
        builder.add(tile.x_px, tile.y_px, pixels[: tile.height_px, : tile.width_px])
    settings.store.save_map(
        dataclasses.replace(builder.finish(), sum_q=old.sum_q, largest_margin=old.largest_margin), -1
    )


def _first_map_or_error(settings: MappingSettings, info: TrainingSlide) -> ProbabilityMap | Exception:
    """The map of an earlier run where it was kept, else a new one."""
    if (settings.store.folder / "maps" / default_file(info)).exists():
        return settings.store.load_map(default_file(info))
    try:
        slide = Slide(info.path, mpp=info.mpp)
        where = info.tissue or (None if settings.tissue == "none" else settings.tissue)
        tissue = tissue_mask(slide, where)
        if tissue is None and info.label and settings.tissue != "none":
            raise SlideError(f"{info.slide_id} is malignant, but no tissue is found on it: {WITHOUT_TISSUE}")
        return default_map(
            info.slide_id, slide.size_px(settings.mpp), settings.mpp, tissue, settings.alpha, settings.map_stride,
            settings.tile_size, tissue_cell(where, settings.mpp),
        )  # fmt: skip
    except (SlideError, OSError) as error:
        return error
