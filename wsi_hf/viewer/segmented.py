"""Slides of a folder that `wsi-hf segment` wrote."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import openslide

from wsi_hf.segmentation.outputs import GEOJSON, SUMMARY, TIFF
from wsi_hf.viewer.shown_slide import ShownSlide, read_json

REVIEW = "review.geojson"


class SegmentedSlide(ShownSlide):
    """A slide's folder with summary, map and lesions."""

    @property
    def folder(self) -> Path:
        return self.review_path.parent

    def probability_map(self) -> tuple[openslide.AbstractSlide, float]:
        tiff = openslide.OpenSlide(self.folder / TIFF)
        return tiff, float(tiff.properties["openslide.mpp-x"]) / self.mpp

    def lesions(self) -> dict[str, Any]:
        collection = read_json(self.folder / GEOJSON)
        lesions = [feature for feature in collection["features"] if feature["properties"].get("measurements")]
        return collection | {"features": lesions}  # without what could not be read


def segmented_slides(folder: Path, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[SegmentedSlide]:
    """The finished slides of a run.

    Args:
        folder: of the run, or of one of its slides.
        rows: of a cohort by slide_id: labels, annotations, and where the slides are.
    """
    for path in [folder / SUMMARY, *sorted(folder.glob(f"*/{SUMMARY}"))]:
        set_aside = path.parent.name.startswith(".") or re.search(r"\.damaged-\d+$", path.parent.name)
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()) and not set_aside:
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
