"""Outlines of lesions: ASAP's XML <-> polygons <-> masks. All coordinates are level-0 pixels, (x, y)."""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent
from xml.etree.ElementTree import ElementTree as Tree

import numpy as np
import shapely
from defusedxml import DefusedXmlException, ElementTree
from shapely.geometry import MultiPolygon, Polygon

from wsi_hf.slides.damaged import STUMBLES
from wsi_hf.slides.outlines.rings import EXCLUSION_GROUPS, NO_GROUP, TUMOUR_GROUPS, area_of, multipolygon, tumour_of
from wsi_hf.slides.replacing import replacing

LARGEST_BYTES = 2**29


def read_asap(path: str | Path) -> MultiPolygon:
    """Read the tumour of a slide: groups `_0`, `_1`, `Tumor`, less `_2`, `Exclusion`, and others (`tumour_of`).

    A group that is part of another counts as that one, unless its own name is known. Splines are read as the polygons
    of their points. Rings that cross themselves are repaired, and the log says so.

    Raises:
        ValueError: it is not ASAP's XML, or damaged; the message names the file.
    """
    path = Path(path)
    root = _parse(path)
    if root.tag == "Annotations" and next(root.iter("Regions"), None) is not None:
        raise ValueError(
            f"{path.name} is XML of Aperio ImageScope, not of ASAP; convert it, or export GeoJSON ({path})"
        )
    parents = {group.get("Name", "").lower(): group.get("PartOfGroup", "").lower() for group in root.iter("Group")}
    areas: dict[str, list[shapely.Geometry]] = {}
    for annotation in root.iter("Annotation"):
        group = _known_group(annotation.get("PartOfGroup", NO_GROUP).lower(), parents)
        areas.setdefault(group, []).extend(_area(path.name, annotation))
    return tumour_of(areas, path.name)


def write_asap(path: str | Path, polygons: Polygon | MultiPolygon) -> Path:
    """Write outlines as annotations of group `Tumor`, their holes as group `Exclusion`; `read_asap` gives them back."""
    path = Path(path)
    parts = multipolygon(polygons)
    outlines = [("Tumor", part.exterior) for part in parts.geoms]
    for part in parts.geoms:
        for hole in part.interiors:  # a hole with an island in it is cut up, or it would exclude the island
            empty = multipolygon(Polygon(hole).difference(parts))
            outlines += [("Exclusion", piece.exterior) for piece in _without_holes(empty)]
    root = Element("ASAP_Annotations")
    annotations = SubElement(root, "Annotations")
    for i, (group, ring) in enumerate(outlines):
        names = {"Name": f"Annotation {i}", "Type": "Polygon", "PartOfGroup": group, "Color": "#F4FA58"}
        points = SubElement(SubElement(annotations, "Annotation", names), "Coordinates")
        for order, (x, y) in enumerate(ring.coords[:-1]):
            SubElement(points, "Coordinate", {"Order": str(order), "X": repr(float(x)), "Y": repr(float(y))})
    groups = SubElement(root, "AnnotationGroups")
    for group in ("Tumor", "Exclusion"):
        SubElement(groups, "Group", {"Name": group, "PartOfGroup": "None", "Color": "#F4FA58"})
    indent(root)
    with replacing(path) as part:
        Tree(root).write(part, encoding="utf-8", xml_declaration=True)
    return path


def rasterize(polygons: Polygon | MultiPolygon, shape: tuple[int, int], downsample: float) -> np.ndarray:
    """Turn polygons into a mask.

    Args:
        polygons: valid polygons in level-0 coordinates.
        shape: (H, W) of the mask.
        downsample: level-0 pixels a cell.

    Returns:
        bool, shape (H, W): cell (i, j) is set if its centre ((j + 0.5) * downsample, (i + 0.5) * downsample) lies
        inside. Of two polygons that share an edge exactly one holds a centre on it.
    """
    # Even-odd rule: every edge flips all centres to its right in the rows that it crosses.
    flips = np.zeros((shape[0], shape[1] + 1), np.uint8)
    for x0, y0, x1, y1 in _edges(multipolygon(polygons), downsample, shape[0]):
        first, last = (max(0, min(shape[0], math.ceil(y - 0.5))) for y in sorted((y0, y1)))
        rows = np.arange(first, last)
        crossing = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        columns = np.clip(np.ceil(crossing - 0.5), 0, shape[1]).astype(int)
        flips[rows, columns] ^= 1  # an edge meets a row once: no index twice
    return np.bitwise_xor.accumulate(flips, axis=1)[:, :-1].astype(bool)


def polygons_from_mask(mask: np.ndarray, downsample: float) -> MultiPolygon:
    """Outline a mask exactly along the edges of its cells, holes included; cells that touch at a corner only are apart.

    Args:
        mask: bool, shape (H, W).
        downsample: level-0 pixels a cell.
    """
    changes = np.diff(np.pad(np.asarray(mask, bool), ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(changes == 1)
    _, ends = np.nonzero(changes == -1)
    runs = shapely.box(starts, rows, ends, rows + 1)
    outline = shapely.union_all(runs).simplify(0)  # drops the points on straight edges
    return multipolygon(shapely.transform(outline, lambda xy: xy * downsample))


def _parse(path: Path) -> Element:
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"{path.name} is too large for annotations ({path})")
    text = path.read_bytes()
    try:
        return ElementTree.fromstring(text, forbid_dtd=True)  # entities are how XML files attack their readers
    except DefusedXmlException:
        raise ValueError(f"{path.name} declares a document type; ASAP annotations have none ({path})") from None
    except (ElementTree.ParseError, *STUMBLES) as error:
        raise ValueError(
            f"{path.name} is not well-formed XML ({error}); export the annotations again ({path})"
        ) from error


def _known_group(group: str, parents: dict[str, str]) -> str:
    """A group, or the nearest of those that it is part of whose name is known."""
    found = group
    for _ in parents:
        if found in TUMOUR_GROUPS | EXCLUSION_GROUPS:
            return found
        found = parents.get(found, "")
    return group


def _area(name: str, annotation: Element) -> list[shapely.Geometry]:
    """The area of one annotation; none where it is a point or a line."""
    label = f"{name}: annotation {annotation.get('Name', '')!r}"
    try:
        points = [
            (float(p.get("Order", "0")), _number(p.attrib["X"]), _number(p.attrib["Y"]))
            for p in annotation.iter("Coordinate")
        ]
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{label} has a coordinate that is not a number ({error}); export the annotations again"
        ) from error
    points.sort(key=lambda point: point[0])  # those of the same order, or of none, stay as they are
    return area_of(np.array(points, np.float64).reshape(-1, 3)[:, 1:], label)


def _number(text: str) -> float:
    return float(text.replace(",", ".") if "." not in text else text)


def _without_holes(polygons: MultiPolygon) -> Iterator[Polygon]:
    """Cut polygons into pieces that have no holes."""
    for polygon in polygons.geoms:
        if not polygon.interiors:
            yield polygon
            continue
        left, bottom, right, top = polygon.bounds
        cut = polygon.interiors[0].centroid.x
        for side in (shapely.box(left, bottom, cut, top), shapely.box(cut, bottom, right, top)):
            yield from _without_holes(multipolygon(polygon.intersection(side)))


def _edges(polygons: MultiPolygon, downsample: float, rows: int) -> Iterator[tuple[float, float, float, float]]:
    """(x0, y0, x1, y1), in cells, of the edges of all rings that cross the centre line of one of `rows` rows."""
    for polygon in polygons.geoms:
        for ring in (polygon.exterior, *polygon.interiors):
            points = shapely.get_coordinates(ring) / downsample
            line = np.ceil(np.clip(points[:, 1], 0, rows) - 0.5)
            crossing = line[:-1] != line[1:]
            yield from np.hstack([points[:-1], points[1:]])[crossing].tolist()
