"""The outlines of a slide's tumour, whatever file they stand in: ASAP's XML, or GeoJSON of QuPath or this package."""

from pathlib import Path

from shapely.geometry import MultiPolygon

from wsi_hf.slides.annotations import read_asap
from wsi_hf.slides.outlines.geojson import read_geojson

JSON_SUFFIXES = (".geojson", ".json")


def read_outline(path: str | Path, offset_l0: tuple[float, float] = (0, 0)) -> MultiPolygon:
    """Read the tumour of a slide, in level-0 pixels of the whole canvas.

    Args:
        path: .xml of ASAP, .geojson or .json.
        offset_l0: (x, y) of the slide's bounds (`Slide.bounds_l0`), from which QuPath counts.
    """
    path = Path(path)
    return read_geojson(path, offset_l0) if path.suffix.lower() in JSON_SUFFIXES else read_asap(path)
