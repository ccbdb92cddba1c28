"""Outlines in GeoJSON, as QuPath exports them. Coordinates are pixels of level 0, (x, y), in one of two frames.

`level-0`: counted from the corner of the whole canvas, as OpenSlide and ASAP count. `qupath`: from the corner of the
part that was scanned (`openslide.bounds-x` and `-y`), to which QuPath crops MIRAX, Leica and some other slides unless
told otherwise. A file of this package says which, and the offset between them; any other is taken for QuPath's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from shapely.geometry import MultiPolygon

from wsi_hf.slides.damaged import DamagedFileError, reading
from wsi_hf.slides.outlines.rings import NO_GROUP, area_of, multipolygon, tumour_of

LARGEST_BYTES = 2**29
LEVEL_0: Literal["level-0"] = "level-0"
QUPATH: Literal["qupath"] = "qupath"


def read_geojson(path: str | Path, offset_l0: tuple[float, float] = (0, 0)) -> MultiPolygon:
    """Read the tumour of a slide from the classes of its annotations, as `tumour_of` tells them, in the level-0 frame.

    Args:
        path: the file.
        offset_l0: (x, y) of the slide's bounds, by which QuPath's frame lies inside the canvas.

    Raises:
        ValueError: it is not GeoJSON, or damaged; the message names the file.
    """
    path = Path(path)
    areas, origin_l0 = read_areas(path)
    origin = np.asarray(offset_l0 if origin_l0 is None else origin_l0, np.float64)
    tumour = tumour_of(areas, path.name)
    return shapely.transform(tumour, lambda xy: xy + origin) if origin.any() else tumour


def read_areas(path: Path) -> tuple[dict[str, list[shapely.Geometry]], tuple[float, float] | None]:
    """({class in small letters: areas}, where they are counted from, if the file says) of a GeoJSON file."""
    if path.stat().st_size > LARGEST_BYTES:
        raise DamagedFileError(f"{path.name} is too large for annotations ({path})")
    with reading(path, "GeoJSON", "export the annotations again"):
        data = json.loads(path.read_bytes())
        areas: dict[str, list[shapely.Geometry]] = {}
        for number, feature in enumerate(_features(data), start=1):
            group, rings = _group(feature), list(_polygons(feature["geometry"]))
            label = f"{path.name}: annotation {number}"
            areas.setdefault(group, []).extend(_polygon(rings_of, label) for rings_of in rings)
        frame = data.get("frame") if isinstance(data, dict) else None
        return areas, (float(frame["origin_l0"][0]), float(frame["origin_l0"][1])) if frame else None


def _features(data: Any) -> list[dict[str, Any]]:
    """QuPath writes a collection, a list, or a single feature."""
    if isinstance(data, list):
        return data
    return data["features"] if data["type"] == "FeatureCollection" else [data]


def _group(feature: dict[str, Any]) -> str:
    """An annotation's class; older versions of QuPath nest it otherwise, and sub-classes follow a colon."""
    facts = feature.get("properties") or {}
    found = facts.get("classification") or {}
    names = found.get("names") or [found.get("name") or NO_GROUP]
    return str(names[0]).split(":")[0].strip().lower()


def _polygons(geometry: dict[str, Any]) -> Iterator[list[Any]]:
    """The rings of each polygon of a geometry; points and lines hold none."""
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _polygons(part)
    elif geometry["type"] == "MultiPolygon":
        yield from geometry["coordinates"]
    elif geometry["type"] == "Polygon":
        yield geometry["coordinates"]
    elif geometry["type"] not in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise ValueError(f"unknown geometry {geometry['type']!r}")


def _polygon(rings: list[Any], label: str) -> shapely.Geometry:
    shell, *holes = (shapely.union_all(area_of(_points(ring), label)) for ring in rings)
    return multipolygon(shell.difference(shapely.union_all(holes)) if holes else shell)


def _points(ring: Any) -> np.ndarray:
    points = np.array([point[:2] for point in ring], np.float64)
    return points.reshape(-1, 2)
