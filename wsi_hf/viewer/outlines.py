"""Lesions and annotations as SVG paths in level-0 pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely

from wsi_hf.viewer.shown_slide import Feature

MOST_LESIONS = 1000
"""Outlines a page; more would neither be read nor drawn in time."""


def lesion_outlines(lesions: Mapping[str, Any], tolerance: float, verdicts: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the page shows of the first lesions.

    Args:
        lesions: as written by `write_geojson`, in its frame.
        tolerance: level-0 pixels by which an outline may be moved, to rid it of the map's stairs.
        verdicts: accepted or rejected, by the lesions' ids.
    """
    origin = lesions.get("frame", {}).get("origin_l0", (0, 0))
    shown = named(lesions["features"][:MOST_LESIONS])
    return [_lesion(name, feature, origin, tolerance, verdicts.get(name)) for name, feature in shown]


def named(features: Sequence[Feature]) -> list[tuple[str, Feature]]:
    """Features with their ids; those of older files are numbered."""
    return [(str(feature.get("id", number)), feature) for number, feature in enumerate(features, start=1)]


def svg_path(geometry: shapely.Geometry, tolerance: float) -> str:
    """The rings of polygons as the `d` of an SVG path, for the even-odd rule."""
    rings = []
    for polygon in shapely.get_parts(shapely.simplify(geometry, tolerance)):
        if polygon.geom_type == "Polygon":
            rings += [polygon.exterior, *polygon.interiors]
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, *_ in ring.coords[:-1]) + "Z" for ring in rings)


def _lesion(
    name: str, feature: Feature, origin: Sequence[float], tolerance: float, verdict: str | None
) -> dict[str, Any]:
    geometry = shapely.transform(shapely.geometry.shape(feature["geometry"]), lambda xy: xy + np.array(origin))
    measured = feature["properties"]["measurements"]
    left, top, right, bottom = geometry.bounds
    return {
        "id": name,
        "path": svg_path(geometry, tolerance),
        "bounds": [left, top, right - left, bottom - top],
        "area_um2": measured["Area um^2"],
        "largest": measured["Max probability"],
        "mean": measured["Mean probability"],
        "verdict": verdict,
    }
