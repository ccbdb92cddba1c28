"""Slides of a folder that an evaluation wrote: their maps are as fine as its records keep them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import shapely
from PIL import Image

from wsi_hf.evaluation.records import SlideRecord, load_record
from wsi_hf.inference.tiling import Tile
from wsi_hf.reports.cohort import RECORDS, SLIDES
from wsi_hf.segmentation.lesions import find_lesions, lesion_features
from wsi_hf.viewer.shown_slide import ShownSlide, read_json

REVIEWS = "reviews"
THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class EvaluatedSlide(ShownSlide):
    """A slide's record. record_path: the file; records of many slides would fill the memory."""

    record_path: Path

    @property
    def record(self) -> SlideRecord:
        record = load_record(self.record_path)
        if record is None:
            raise FileNotFoundError(f"{self.record_path} is gone")
        return record

    def probability_map(self) -> tuple[openslide.AbstractSlide, float]:
        heat = self.record.heat
        grey = Image.fromarray(np.rint(heat * 255).astype(np.uint8))
        return openslide.ImageSlide(grey), self._downsample(heat)

    def lesions(self) -> dict[str, Any]:
        heat = self.record.heat
        whole, downsample = Tile(0, 0, heat.shape[1], heat.shape[0], 0), self._downsample(heat)
        found = find_lesions(heat, [whole], THRESHOLD, 1, downsample)
        features = list(lesion_features(found, "malignant", downsample * self.mpp))
        return {"type": "FeatureCollection", "features": features}

    def truth(self) -> shapely.Geometry | None:
        return self.record.outline if self.truth_label == "malignant" else None

    def _downsample(self, heat: np.ndarray) -> float:
        return max(self.size_l0) / max(heat.shape)


def evaluated_slides(folder: Path, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[EvaluatedSlide]:
    """The judged slides of an evaluation; rows as in `segmented_slides`."""
    facts = read_json(folder / RECORDS / SLIDES) if (folder / RECORDS / SLIDES).is_file() else {}
    for path in sorted((folder / RECORDS).glob("*.npz")):
        record = load_record(path)
        if record is None or not path.resolve().is_relative_to(folder.resolve()):
            continue
        file = rows.get(record.slide_id, {}).get("path") or facts.get(record.slide_id)
        yield EvaluatedSlide(
            slide_id=record.slide_id,
            path=Path(file) if file else None,
            size_l0=record.dimensions_l0,
            mpp=record.mpp,
            verdict=("benign", "malignant")[int(record.score >= THRESHOLD)],
            score=record.score,
            raw_score=None,
            truth_label=("benign", "malignant")[record.label],
            annotation=None,
            review_path=folder / REVIEWS / f"{record.slide_id}.geojson",
            record_path=path,
        )
