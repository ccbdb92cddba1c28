"""What a calibration must know of one slide: its margins' summary, its lesions at every threshold, its looks."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from wsi_hf.cohorts.camelyon16 import open_slide
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.tissue import tissue_mask
from wsi_hf.segmentation.lesions import find_lesions
from wsi_hf.segmentation.outputs import SlideSegmentation
from wsi_hf.segmentation.provenance import model_fingerprint, slide_fingerprint
from wsi_hf.segmentation.segmentation import segment_slide
from wsi_hf.slides.appearance import appearance
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.replacing import write_text

logger = logging.getLogger(__name__)

RECORD_VERSION = 3
SMALLEST_UM2 = 100.0
"""Smaller groups of pixels are no lesion at any threshold."""
MOST_LESIONS = 48
"""A slide with more is not looked at with lower thresholds."""
THRESHOLDS = np.concatenate([np.arange(-4, 16, 0.5), np.arange(16, 32, 1.0), np.arange(32, 101, 4.0)])
"""Margins at which lesions are counted."""
SHARES, EVERY = 20, 4
"""The margins of a slide's tissue are told by so many quantiles, from every fourth row and column."""


@dataclass(frozen=True)
class SlideMeasure:
    """One slide.

    Attributes:
        slide_id: its name.
        label: 0 benign, 1 malignant.
        pooled: mean of its largest margins that fill an area, {area in um2: mean}; 0 is the largest alone.
        mpp: um per level-0 pixel.
        areas_um2: {threshold: areas of its lesions}, from the largest of `THRESHOLDS` that has any down to the first
            with more than MOST_LESIONS, or the last.
        looks: `slides.appearance`; None where it cannot be told.
        tissue: margins that stand for a twentieth of its pixels each, in rising order; () where nothing was analysed.
    """

    slide_id: str
    label: int
    pooled: dict[float, float]
    mpp: float
    areas_um2: dict[float, list[float]]
    looks: list[float] | None
    tissue: Sequence[float] = ()

    @property
    def margin(self) -> float:
        return self.pooled[0.0]

    def lesions(self, smallest_um2: float) -> np.ndarray:
        """How many lesions of at least this area there are at each of THRESHOLDS, never fewer at a lower one."""
        deepest = min(self.areas_um2, default=np.inf)
        counts = [
            sum(area >= smallest_um2 for area in self.areas_um2.get(t, ())) if t >= deepest else np.inf
            for t in THRESHOLDS.tolist()
        ]
        if not self.areas_um2 and self.margin < THRESHOLDS[0]:
            return np.zeros(len(THRESHOLDS))
        return np.maximum.accumulate(counts[::-1])[::-1]

    def shown_um2(self, smallest_um2: float) -> np.ndarray:
        """The area of its lesions of at least this area, together, at each of THRESHOLDS; never less at a lower one."""
        areas = [sum(a for a in self.areas_um2.get(t, ()) if a >= smallest_um2) for t in THRESHOLDS.tolist()]
        return np.maximum.accumulate(areas[::-1])[::-1]


class Measurer:
    """Measures slides with one network, one record a slide, so that a second calibration takes seconds.

    Args:
        network: the model.
        folder: of the records; made when there is one to write.
        mpp: um per level-0 pixel of slides whose files do not say.
        reading: tile_size, batch_size and num_workers of `segment_slide`; they change no result.
    """

    def __init__(self, network: PixelNetwork, folder: Path, mpp: float | None = None, **reading: int | None) -> None:
        self.network, self.folder, self.mpp, self.reading = network, folder, mpp, reading
        self._model = {"fingerprint": model_fingerprint(network), "dtype": str(network.dtype)}

    def measure_all(
        self, rows: Sequence[Mapping[str, Any]], progress: bool = True
    ) -> tuple[list[SlideMeasure], dict[str, str]]:
        """Measure the rows of a cohort; one bad slide is reported and the rest goes on.

        Returns:
            The slides, and {slide_id: what went wrong}.
        """
        measured, failed = [], {}
        for row in tqdm(rows, "Calibrating", unit="slide", disable=not progress):
            try:
                measured.append(self.measure(row))
            except (SlideError, ValueError, FileNotFoundError, PermissionError) as error:
                failed[row["slide_id"]] = str(error)
                logger.error("%s is left out: %s", row["slide_id"], error)
        return measured, failed

    def measure(self, row: Mapping[str, Any]) -> SlideMeasure:
        """Take up the record of a slide, or segment it."""
        slide, path = open_slide(row, self.mpp), self.folder / f"{row['slide_id']}.json"
        made_of = {"slide": slide_fingerprint(slide), "mpp": slide.mpp, "model": self._model, "v": RECORD_VERSION}
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["made_of"] == made_of:
                return _from_json(record, row)
        segmented = segment_slide(self.network, slide, keep_margins=True, **self.reading)  # type: ignore[arg-type]
        looks = appearance(slide, tissue_mask(slide, "auto"), self.network.mpp)
        measure = SlideMeasure(
            slide_id=row["slide_id"],
            label=row["label"],
            pooled=segmented.pooled_margins,
            mpp=slide.mpp,
            areas_um2=lesion_areas(segmented),
            looks=None if looks is None else looks.tolist(),
            tissue=tissue_margins(segmented),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"made_of": made_of, **asdict(measure)}))
        return measure


def lesion_areas(segmented: SlideSegmentation) -> dict[float, list[float]]:
    """Areas in um2 of the groups of pixels at or above each threshold, see `SlideMeasure.areas_um2`."""
    assert segmented.margins is not None
    best = {tile: float(np.asarray(segmented.margins[tile.rows, tile.columns]).max()) for tile in segmented.tiles}
    areas: dict[float, list[float]] = {}
    for threshold in THRESHOLDS[segmented.margin >= THRESHOLDS][::-1].tolist():
        tiles = [tile for tile, margin in best.items() if margin >= threshold]
        pixel = segmented.mpp**2
        found = find_lesions(segmented.margins, tiles, threshold, SMALLEST_UM2 / pixel, 1.0, outlines=False)
        areas[threshold] = [round(lesion.pixels * pixel, 1) for lesion in found]
        if len(found) > MOST_LESIONS:
            break
    return areas


def tissue_margins(segmented: SlideSegmentation) -> list[float]:
    """See `SlideMeasure.tissue`."""
    assert segmented.margins is not None
    parts = [np.asarray(segmented.margins[tile.rows, tile.columns])[::EVERY, ::EVERY] for tile in segmented.tiles]
    margins = np.concatenate([part[np.isfinite(part)] for part in parts]) if parts else np.empty(0)
    return np.quantile(margins, (np.arange(SHARES) + 0.5) / SHARES).round(3).tolist() if margins.size else []


def _from_json(record: dict[str, Any], row: Mapping[str, Any]) -> SlideMeasure:
    facts = {name: value for name, value in record.items() if name != "made_of"}
    for name in ("areas_um2", "pooled"):
        facts[name] = {float(key): value for key, value in record[name].items()}
    return SlideMeasure(**facts | {"slide_id": row["slide_id"], "label": row["label"]})
