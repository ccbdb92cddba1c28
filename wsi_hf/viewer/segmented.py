"""Slides of a folder that `wsi-hf segment` wrote."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import openslide

from wsi_hf.segmentation.outputs import GEOJSON, GEOJSON_LEVEL_0, SUMMARY, TIFF
from wsi_hf.viewer.shown_slide import Feature, ShownSlide, read_json

REVIEW = "review.geojson"


class SegmentedSlide(ShownSlide):
    """A slide's folder with summary, map and lesions."""

    @property
    def folder(self) -> Path:
        return self.review_path.parent

    def probability_map(self) -> tuple[openslide.AbstractSlide, float]:
        tiff = openslide.OpenSlide(self.folder / TIFF)
        return tiff, float(tiff.properties["openslide.mpp-x"]) / self.mpp

    def lesions(self) -> list[Feature]:
        whole = self.folder / GEOJSON_LEVEL_0  # there where QuPath's frame is another
        geojson = whole if whole.exists() else self.folder / GEOJSON
        features = read_json(geojson)["features"]
        return [feature for feature in features if feature["properties"].get("measurements")]  # not what was unreadable


def segmented_slides(folder: Path, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[SegmentedSlide]:
    """The finished slides of a run.

    Args:
        folder: of the run, or of one of its slides.
        rows: of a cohort by slide_id: labels, annotations, and where the slides are.
    """
    for path in [folder / SUMMARY, *sorted(folder.glob(f"*/{SUMMARY}"))]:
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()) and not path.parent.name.startswith("."):
            yield _slide(path.parent, read_json(path), rows)


def _slide(folder: Path, summary: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> SegmentedSlide:
    slide, row = summary["slide"], rows.get(summary["slide_id"], {})
    path = row.get("path") or slide.get("path")
    return SegmentedSlide(
        slide_id=summary["slide_id"],
        path=Path(path) if path else None,
        size_l0=(slide["width_l0"], slide["height_l0"]),
        mpp=slide["mpp"],
        verdict=summary["label"],
        score=summary["score"],
        raw_score=summary.get("raw_score"),
        truth_label=("benign", "malignant")[row["label"]] if row else None,
        annotation=Path(row["annotation"]) if row.get("annotation") else None,
        review_path=folder / REVIEW,
    )
