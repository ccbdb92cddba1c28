"""Lesions as a DICOM segmentation and the map as a DICOM parametric map, beside a slide that is DICOM itself.

Both refer to the slide, lie in its frame of reference and keep its patient and study. Needs highdicom
(`pip install wsi_hf[dicom]`).
"""

import logging
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import shapely
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from wsi_hf.slides.annotations import rasterize
from wsi_hf.slides.files import DICOM, slide_files
from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

DICOM_LESIONS, DICOM_MAP = "lesions.dcm", "probabilities.dcm"
TILE = 512
WHITE = 2**16 - 1
MOST_PIXELS = 2**27
"""Larger maps are halved until they are no larger: highdicom takes the pixels as one array."""


def dicom_source(slide: Slide) -> pydicom.Dataset | None:
    """The header of the DICOM file that holds a slide's finest level; None where the slide is not DICOM, or highdicom
    is not there."""
    files = [file for file in slide_files(slide.path) if file.suffix.lower() == DICOM]
    if not files:
        return None
    if find_spec("highdicom") is None:
        logger.info("%s: DICOM outputs need highdicom; pip install wsi_hf[dicom]", slide.slide_id)
        return None
    headers = (pydicom.dcmread(file, stop_before_pixels=True) for file in files)
    return next((header for header in headers if _size(header) == slide.dimensions_l0), None)


def halvings(shape: tuple[int, ...]) -> int:
    """How often a map is halved until it is small enough."""
    number = 0
    while (shape[0] >> number) * (shape[1] >> number) > MOST_PIXELS:
        number += 1
    return number


def write_dicom_lesions(
    path: Path,
    source: pydicom.Dataset,
    lesions: list[shapely.Polygon],
    shape: tuple[int, ...],
    downsample: float,
    made_by: str,
) -> None:
    """Write the lesions as one segment.

    Args:
        path: the file to write.
        source: see `dicom_source`.
        lesions: outlines in level-0 pixels.
        shape: (H, W) of the segmentation.
        downsample: level-0 pixels one of its pixels spans.
        made_by: the model.
    """
    import highdicom as hd

    mask = rasterize(shapely.MultiPolygon(lesions), (shape[0], shape[1]), downsample)
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="malignant",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="wsi_hf",
            family=codes.DCM.ArtificialIntelligence,
            version=version("wsi_hf"),
            parameters={"model": made_by},
        ),
    )
    written = hd.seg.Segmentation(
        source_images=[source],
        pixel_array=mask.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_number=101,
        **_place(source, downsample),
        **_maker(),
    )
    written.save_as(path)


def write_dicom_map(path: Path, source: pydicom.Dataset, probabilities: Any, downsample: float) -> None:
    """Write a map (H, W) in 16 bits; its real-world value is P(malignant). Arguments as for `write_dicom_lesions`."""
    import highdicom as hd

    grey = np.empty(probabilities.shape, np.uint16)
    for top in range(0, len(grey), TILE):
        grey[top : top + TILE] = np.rint(np.asarray(probabilities[top : top + TILE, :]) * WHITE)
    value = hd.pm.RealWorldValueMapping(
        lut_label="P(malignant)",
        lut_explanation="probability that the pixel is malignant",
        unit=codes.UCUM.NoUnits,
        value_range=(0, WHITE),
        slope=1 / WHITE,
        intercept=0.0,
    )
    written = hd.pm.ParametricMap(
        source_images=[source],
        pixel_array=grey,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[value],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        series_number=102,
        **_place(source, downsample),
        **_maker(),
    )
    written.save_as(path)


def _size(header: pydicom.Dataset) -> tuple[int, int]:
    return header.get("TotalPixelMatrixColumns", 0), header.get("TotalPixelMatrixRows", 0)


def _place(source: pydicom.Dataset, downsample: float) -> dict[str, Any]:
    """Where an image lies whose corner is the slide's and one pixel of which spans `downsample` of the slide's."""
    import highdicom as hd

    measures = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    spacing = np.array(measures.PixelSpacing, float)  # mm between rows, between columns
    directions = np.array(source.ImageOrientationSlide, float).reshape(2, 3)  # of growing columns, of growing rows
    corner = source.TotalPixelMatrixOriginSequence[0]  # centre of the first pixel
    first = np.array([corner.XOffsetInSlideCoordinateSystem, corner.YOffsetInSlideCoordinateSystem, 0.0], float)
    first = first + (downsample - 1) / 2 * spacing[::-1] @ directions
    return {
        "pixel_measures": hd.PixelMeasuresSequence(list(spacing * downsample), float(measures.SliceThickness)),
        "plane_orientation": hd.PlaneOrientationSequence("SLIDE", source.ImageOrientationSlide),
        "plane_positions": [hd.PlanePositionSequence("SLIDE", list(first), (1, 1))],
        "tile_pixel_array": True,
        "tile_size": (TILE, TILE),
    }


def _maker() -> dict[str, Any]:
    return {
        "series_instance_uid": generate_uid(),
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "manufacturer": "wsi_hf",
        "manufacturer_model_name": "wsi_hf",
        "software_versions": version("wsi_hf"),
        "device_serial_number": "none",
    }
