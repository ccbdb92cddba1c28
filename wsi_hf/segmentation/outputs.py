"""The result of segmenting one slide, and the files it can be written to."""

import json
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pydicom
import zarr

from wsi_hf.inference.reading import Damage
from wsi_hf.inference.tiling import Tile
from wsi_hf.segmentation.calibration import Calibration
from wsi_hf.segmentation.formats.dicom import (
    DICOM_LESIONS,
    DICOM_MAP,
    dicom_source,
    halvings,
    write_dicom_lesions,
    write_dicom_map,
)
from wsi_hf.segmentation.formats.ome_tiff import write_ome_tiff
from wsi_hf.segmentation.formats.ome_zarr import open_level, write_ome_zarr
from wsi_hf.segmentation.lesions import Lesion, damage_box, find_lesions, unread_areas, write_geojson
from wsi_hf.segmentation.overlay import write_overlay
from wsi_hf.segmentation.slide_score import AREA_UM2
from wsi_hf.slides.outlines.geojson import LEVEL_0, QUPATH
from wsi_hf.slides.replacing import replacing
from wsi_hf.slides.slide import Slide

ZARR, OME_ZARR, TIFF, GEOJSON, OVERLAY, SUMMARY = (
    "probabilities.zarr",
    "probabilities.ome.zarr",
    "probabilities.ome.tif",
    "lesions.geojson",
    "overlay.png",
    "summary.json",
)
GEOJSON_LEVEL_0 = "lesions_level-0.geojson"
"""Written where QuPath's frame is another."""


@dataclass(eq=False)
class SlideSegmentation:
    """The probability map of one slide and what follows from it.

    probabilities: P(malignant) of every pixel at `mpp`, float32 (H, W), read lazily; 0 outside the tissue and where the
        slide could not be read.
    margin: the largest l1 - l0 of all pixels, by which slides are ranked (a probability rounds to 1 from 16.7 on).
    pooled_margins: the mean of the largest margins that fill an area, {area in um2: mean}; 0 is the largest alone.
    score: P(slide is malignant) of a calibrated model, whose operating point is 0.5; else `raw_score`.
    raw_score: the paper's score, the network's own probability of its best pixel.
    calibration: the model's; None where it is not calibrated.
    warnings: what to know before believing the result.
    damages: rectangles that could not be read.
    tiles: where the map is not 0.
    provenance: slide, model, settings, versions.
    margins: l1 - l0 of every pixel, float32 (H, W), -inf where not analysed; None unless asked for.
    """

    slide: Slide
    mpp: float
    probabilities: zarr.Array
    margin: float
    pooled_margins: dict[float, float]
    score: float
    raw_score: float
    label: str
    threshold: float
    smallest_um2: float
    tissue_area_um2: float
    damages: list[Damage]
    tiles: list[Tile]
    provenance: dict[str, Any]
    seconds: float
    calibration: Calibration | None = None
    warnings: list[str] = field(default_factory=list)
    margins: zarr.Array | None = None

    @property
    def slide_id(self) -> str:
        return self.slide.slide_id

    @property
    def downsample(self) -> float:
        """Level-0 pixels a map pixel."""
        return self.mpp / self.slide.mpp

    @cached_property
    def lesions(self) -> list[Lesion]:
        """Groups of pixels at or above the threshold, of `smallest_um2` at least, in level-0 coordinates."""
        smallest_px = self.smallest_um2 / self.mpp**2
        return find_lesions(self.probabilities, self.tiles, self.threshold, smallest_px, self.downsample)

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "slide_id": self.slide_id,
            "label": self.label,
            "score": self.score,
            "calibrated": self.calibration is not None,
            "raw_score": self.raw_score,
            "margin": self.margin,
            "robust_margin": self.pooled_margins[AREA_UM2],
            "lesions": len(self.lesions),
            "lesion_area_um2": sum(lesion.pixels for lesion in self.lesions) * self.mpp**2,
            "tissue_area_um2": self.tissue_area_um2,
            "warnings": self.warnings,
            "not_analysed": describe_damages(self.damages, self.downsample),
            "seconds": round(self.seconds, 2),
            **self.provenance,
        }

    def write_zarr(self, path: str | Path) -> None:
        """Copy the map, a zarr v3 array."""
        with replacing(path) as part:
            shutil.copytree(self.probabilities.store.root, part)  # type: ignore[attr-defined]

    def write_tiff(self, path: str | Path) -> None:
        """Write the map as a pyramidal 8-bit OME-TIFF."""
        write_ome_tiff(Path(path), self.probabilities, self.mpp, self.image_name)

    def write_geojson(self, path: str | Path, frame: Literal["qupath", "level-0"] = "qupath") -> None:
        """Write the lesions, and what was not analysed, as QuPath annotations, in level-0 pixels.

        Args:
            path: the file; `frame` in it says which it is.
            frame: "qupath" counts from the corner of what was scanned, to which QuPath crops slides that say it
                (`openslide.bounds-x`: MIRAX, Leica); "level-0" from the corner of the canvas. Most slides have one.
        """
        origin_l0 = self.slide.bounds_l0[:2] if frame == QUPATH else (0, 0)
        write_geojson(
            Path(path), self.lesions, self.damages, self.malignant, self.mpp, self.downsample, self.made_by, origin_l0
        )

    def write_overlay(self, path: str | Path) -> None:
        """Write a picture of slide, heatmap and outlines."""
        write_overlay(
            Path(path), self.slide, self.probabilities, self.tiles, self.damages, self.threshold, made_by=self.made_by
        )

    def write_summary(self, path: str | Path) -> None:
        """Write the numbers and where they come from as JSON."""
        with replacing(path) as part:
            part.write_text(json.dumps(self.summary, indent=2) + "\n", encoding="utf-8")

    def save(self, folder: str | Path) -> Path:
        """Write everything into a new folder, which appears under its name only when complete."""
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} exists already; choose another folder or remove it")
        with replacing(folder) as part:
            part.mkdir(parents=True)
            self.write_zarr(part / ZARR)
            self.write_beside_map(part)
        return folder

    def write_beside_map(self, folder: Path) -> None:
        """Write everything but the map itself, which becomes the finest level of the OME-Zarr."""
        write_ome_zarr(folder / OME_ZARR, folder / ZARR, self.mpp, self.image_name)
        self.write_tiff(folder / TIFF)
        self.write_geojson(folder / GEOJSON)
        if any(self.slide.bounds_l0[:2]):
            self.write_geojson(folder / GEOJSON_LEVEL_0, LEVEL_0)
        self.write_overlay(folder / OVERLAY)
        if (source := dicom_source(self.slide)) is not None:
            self.write_dicom(folder, source)
        self.write_summary(folder / SUMMARY)

    def write_dicom(self, folder: Path, source: pydicom.Dataset) -> None:
        """Write lesions and map as DICOM; of gigapixel slides a coarser level."""
        number = halvings(self.probabilities.shape)
        level, downsample = open_level(folder / OME_ZARR, number), self.downsample * 2**number
        outlines = [polygon for lesion in self.lesions for polygon in lesion.polygons]
        write_dicom_lesions(folder / DICOM_LESIONS, source, outlines, level.shape, downsample, self.made_by)
        write_dicom_map(folder / DICOM_MAP, source, level, downsample)

    @property
    def image_name(self) -> str:
        return f"{self.slide_id} P({self.malignant}) by {self.made_by}"

    @property
    def made_by(self) -> str:
        """The model and its commit on the Hub, or the fingerprint of its weights."""
        model = self.provenance["model"]
        return f"{model['id']}@{model['revision'] or model['fingerprint']}"

    @property
    def malignant(self) -> str:
        """The model's word for class 1."""
        return self.provenance["model"]["labels"]["1"]


def describe_damages(damages: list[Damage], downsample: float) -> list[dict[str, Any]]:
    """Each spot that was not analysed: what bounds it, as (x, y, width, height) in level-0 pixels, and why."""
    spots = []
    for area in unread_areas(damages):
        left, top, right, bottom = (value * downsample for value in area.bounds)
        reason = next(damage.reason for damage in damages if area.intersects(damage_box(damage)))
        spots.append({"bounds_l0": [left, top, right - left, bottom - top], "reason": reason})
    return spots
