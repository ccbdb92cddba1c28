"""Segment a whole slide: its probability map, streamed to disk, and its score."""

import logging
import math
import shutil
import time
import weakref
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from wsi_hf.inference.memory import largest_tile
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.reading import Damage
from wsi_hf.inference.streaming import SegmentedTile, stream_tiles, whole_tiles
from wsi_hf.inference.tiling import TileGrid
from wsi_hf.inference.tissue import Tissue, tissue_cell, tissue_mask
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.segmentation.calibration import UNCALIBRATED, UNLIKE, Calibration, calibration_of
from wsi_hf.segmentation.map_writer import MapWriter
from wsi_hf.segmentation.outputs import ZARR, SlideSegmentation
from wsi_hf.segmentation.provenance import describe_model, describe_slide, describe_tissue, versions
from wsi_hf.segmentation.slide_score import POOLED_UM2
from wsi_hf.slides.appearance import appearance
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.replacing import part_of, remove_leftovers
from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

TEMPORARY = "wsi_hf-map"
"""Maps in the system's temporary folder."""

COARSE = 1.5
"""A slide whose pixels are larger than the model's by more than this is warned of."""

SMALLEST_UM2 = 100.0
DECIDING = ("version", "rule", "n_benign", "n_malignant", "slide", "pixels")
"""What of a calibration stands in the results."""

__all__ = ["SegmentedTile", "Tissue", "segment_slide", "stream_tiles", "tissue_mask"]


def segment_slide(
    model: PreTrainedModel | PixelNetwork,
    slide: Slide | str | Path,
    mpp: float | None = None,
    tissue: Tissue = "auto",
    tile_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    *,
    image_processor: WsiImageProcessor | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    threshold: float = 0.5,
    smallest_um2: float | None = None,
    map_path: str | Path | None = None,
    keep_margins: bool = False,
    progress: bool = False,
) -> SlideSegmentation:
    """Compute the probability map of a slide.

    Memory does not grow with the slide: tiles go to disk as they are done. Spots that cannot be read are marked as not
    analysed, and the rest goes on.

    Args:
        model: a model, left as it was, or a `PixelNetwork` made of it once for many slides (then image_processor,
            device and dtype are not taken).
        slide: a slide or its path.
        mpp: um per level-0 pixel of a slide whose file does not say (where `slide` is a path; to override what a file
            says, pass `Slide(path, mpp)`). The resolution that the model works at is another thing and stands in its
            image processor.
        tissue, tile_size, batch_size, num_workers: see `stream_tiles`.
        threshold: probability from which a pixel, and a slide, counts as malignant. 0.5 is the operating point of a
            model that is calibrated; in one that is not, a slide's probability is that of its best pixel.
        smallest_um2: smaller lesions are not outlined; by default the calibration's, or 100.
        map_path: folder for the map; by default a temporary one that vanishes with the last use of the array.
        keep_margins: give the margins l1 - l0 of all pixels too: they rank pixels whose probability rounds to 1.
        progress: show a progress bar.

    Raises:
        SlideError: the slide cannot be opened, or nothing of its tissue can be read.
        ValueError: the threshold is not a probability, or the model cannot be used.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is a probability, 0 < threshold < 1; got {threshold}")
    start = time.perf_counter()
    network = model if isinstance(model, PixelNetwork) else PixelNetwork(model, image_processor, device, dtype)
    slide = slide if isinstance(slide, Slide) else Slide(slide, fallback_mpp=mpp)
    for warning in _coarse(slide, network.mpp):
        logger.warning("%s is %s", slide.slide_id, warning)
    calibration, mask = calibration_of(network.config), tissue_mask(slide, tissue)
    smallest_um2 = smallest_area(calibration, smallest_um2)
    tile_size = tile_size or largest_tile(network, batch_size)
    cell_px = tissue_cell(tissue, network.mpp)
    grid = TileGrid.cover(slide.size_px(network.mpp), tile_size, network.alignment, cell_px)
    tiles, damages = grid.tiles(mask), list[Damage]()
    provenance = describe_run(network, slide, tissue, threshold, smallest_um2)
    scale = (calibration.temperature, calibration.shift) if calibration else (1.0, 0.0)
    path = Path(map_path) if map_path else temporary_path()
    writer = MapWriter(path, grid, provenance, keep_margins, network.mpp, scale)
    if not map_path:
        for array in filter(None, (writer.array, writer.margins)):  # each as long as anybody has it
            weakref.finalize(array, _forget, Path(array.store.root))  # type: ignore[attr-defined]
    stream = stream_tiles(
        network,
        slide,
        tissue=mask,
        cell_px=cell_px,
        tile_size=tile_size,
        batch_size=batch_size,
        num_workers=num_workers,
        on_damage=damages.append,
    )
    _write_beside(
        tqdm(whole_tiles(stream, grid), slide.slide_id, len(tiles), unit="tile", disable=not progress, leave=False),
        writer,
    )
    writer.blank(damages)
    if writer.margin == -math.inf:
        reason = damages[0].reason if damages else "its tissue mask is finer than its pixels"
        raise SlideError(f"{slide.slide_id}: nothing of it could be analysed: {reason}")
    raw_score = float(torch.sigmoid(torch.tensor(writer.margin)))
    pooled = {area: writer.pooled_margin(area) for area in POOLED_UM2}
    score = float(calibration.slide_probability(pooled)) if calibration else raw_score
    return SlideSegmentation(
        slide=slide,
        mpp=network.mpp,
        probabilities=writer.array,
        margin=writer.margin,
        pooled_margins=pooled,
        score=score,
        raw_score=raw_score,
        calibration=calibration,
        warnings=_coarse(slide, network.mpp) + _warnings(slide, mask, network.mpp, calibration),
        label=network.labels[int(score >= threshold)],
        threshold=threshold,
        smallest_um2=smallest_um2,
        tissue_area_um2=writer.tissue_pixels * network.mpp**2,
        damages=damages,
        tiles=tiles,
        provenance=provenance,
        seconds=time.perf_counter() - start,
        margins=writer.margins,
    )


def smallest_area(calibration: Calibration | None, wanted: float | None) -> float:
    """The smallest lesion in um2: what is wanted, else the calibration's, else 100."""
    if wanted is not None:
        return wanted
    return calibration.smallest_um2 if calibration else SMALLEST_UM2


def _coarse(slide: Slide, mpp: float) -> list[str]:
    """Say so where a slide's pixels are much larger than the model's."""
    if slide.mpp <= COARSE * mpp:
        return []
    return [
        f"scanned at {slide.mpp:g} um/px, and the model works at {mpp:g}: it sees the slide enlarged "
        f"{slide.mpp / mpp:.1f} times, without the detail that it was trained on; do not trust the result"
    ]


def _warnings(slide: Slide, mask: np.ndarray | None, mpp: float, calibration: Calibration | None) -> list[str]:
    """What a reader must know before believing the result."""
    if calibration is None:
        return [UNCALIBRATED]
    features = appearance(slide, mask, mpp) if calibration.likeness else None
    if calibration.likeness is None or features is None:
        return []
    distance, limit = calibration.likeness.distance(features), calibration.likeness.limit
    return [f"{UNLIKE} (distance {distance:.1f}, limit {limit:.1f})"] if distance > limit else []


def describe_run(
    network: PixelNetwork, slide: Slide | None, tissue: Tissue, threshold: float, smallest_um2: float | None
) -> dict[str, Any]:
    """Everything that decides the result, as it stands in the outputs. The size of tiles is no part of it."""
    calibration = calibration_of(network.config)
    operating = calibration.to_config() if calibration else {}
    return {
        "slide": describe_slide(slide) if slide else None,
        "model": describe_model(network),
        "settings": {
            "mpp": network.mpp,
            "tissue": describe_tissue(tissue),
            "dtype": str(network.dtype).removeprefix("torch."),
            "seams": "exact" if network.exact else f"blended over {2 * network.margin} px",
            "threshold": threshold,
            "smallest_um2": smallest_area(calibration, smallest_um2),
            "calibration": {name: operating[name] for name in DECIDING} if operating else None,
        },
        "versions": versions(),
    }


def _forget(array: Path) -> None:
    """Remove a temporary array, and its folder with the last one."""
    shutil.rmtree(array, ignore_errors=True)
    with suppress(OSError):
        array.parent.rmdir()


def temporary_path() -> Path:
    """A place for a map that nobody keeps; those that killed processes left are removed."""
    remove_leftovers(Path(gettempdir()), TEMPORARY)
    folder = part_of(Path(gettempdir()) / TEMPORARY)
    folder.mkdir(mode=0o700)
    return folder / ZARR


def _write_beside(stream: Iterable[SegmentedTile], writer: MapWriter) -> None:
    """Write each tile while the next one is computed."""
    with ThreadPoolExecutor(1) as pool:
        last: Future[None] | None = None
        for tile in stream:
            if last is not None:
                last.result()
            last = pool.submit(writer.add, tile.x_px, tile.y_px, tile.logits, tile.tissue)
        if last is not None:
            last.result()
