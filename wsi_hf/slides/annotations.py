"""Outlines of lesions: ASAP's XML <-> polygons <-> masks. All coordinates are level-0 pixels, (x, y)."""

import logging
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from wsi_hf.slides.replacing import replacing

logger = logging.getLogger(__name__)

TUMOUR_GROUPS = frozenset({"_0", "_1", "tumor"})
EXCLUSION_GROUPS = frozenset({"_2", "exclusion"})
NO_GROUP = "none"


def read_asap(path: str | Path) -> MultiPolygon:
    """Read the tumour of a slide: groups `_0`, `_1`, `Tumor`, less `_2`, `Exclusion` (in upper or lower case).

    Annotations without a group (ASAP writes `None`) count as tumour in files whose annotations all lack one; beside
    grouped ones, and in groups of any other name, they are left out, and the log says so. Splines are read as the
    polygons of their points. Rings that cross themselves are repaired, and the log says so.
    """
    path = Path(path)
    areas: dict[str, list[shapely.Geometry]] = {}
    for annotation in _parse(path).iter("Annotation"):
        group = annotation.get("PartOfGroup", NO_GROUP).lower()
        areas.setdefault(group, []).extend(_area(path.name, annotation))
    if set(areas) == {NO_GROUP}:
        areas = {"tumor": areas[NO_GROUP]}
    for group in set(areas) - TUMOUR_GROUPS - EXCLUSION_GROUPS:
        logger.warning("%s: %d annotations of group %r are left out", path.name, len(areas[group]), group)
    tumour = shapely.union_all([area for group in TUMOUR_GROUPS for area in areas.get(group, [])])
    excluded = shapely.union_all([area for group in EXCLUSION_GROUPS for area in areas.get(group, [])])
    return _multipolygon(tumour.difference(excluded))


def write_asap(path: str | Path, polygons: Polygon | MultiPolygon) -> Path:
    """Write outlines as annotations of group `Tumor`, their holes as group `Exclusion`; `read_asap` gives them back."""
    path = Path(path)
    parts = _multipolygon(polygons)
    outlines = [("Tumor", part.exterior) for part in parts.geoms]
    for part in parts.geoms:
        for hole in part.interiors:  # a hole with an island in it is cut up, or it would exclude the island
            empty = _multipolygon(Polygon(hole).difference(parts))
            outlines += [("Exclusion", piece.exterior) for piece in _without_holes(empty)]
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    for i, (group, ring) in enumerate(outlines):
        names = {"Name": f"Annotation {i}", "Type": "Polygon", "PartOfGroup": group, "Color": "#F4FA58"}
        points = ElementTree.SubElement(ElementTree.SubElement(annotations, "Annotation", names), "Coordinates")
        for order, (x, y) in enumerate(ring.coords[:-1]):
            ElementTree.SubElement(
                points, "Coordinate", {"Order": str(order), "X": repr(float(x)), "Y": repr(float(y))}
            )
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for group in ("Tumor", "Exclusion"):
        ElementTree.SubElement(groups, "Group", {"Name": group, "PartOfGroup": "None", "Color": "#F4FA58"})
    ElementTree.indent(root)
    with replacing(path) as part:
        ElementTree.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)
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
    # Even-odd rule, a row at a time: every edge flips all centres to its right in the rows that it crosses.
    flips = np.zeros((shape[0], shape[1] + 1), np.uint8)
    for x0, y0, x1, y1 in _edges(_multipolygon(polygons), downsample):
        first, last = np.clip(np.ceil(np.array([min(y0, y1), max(y0, y1)]) - 0.5), 0, shape[0]).astype(int)
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
    return _multipolygon(shapely.transform(outline, lambda xy: xy * downsample))


def _parse(path: Path) -> ElementTree.Element:
    try:
        text = path.read_bytes()
        if b"<!DOCTYPE" in text:  # ASAP writes none; entities are how XML files attack their readers
            raise ValueError(f"{path.name} declares a document type; ASAP annotations have none ({path})")
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(
            f"{path.name} is not well-formed XML ({error}); export the annotations again ({path})"
        ) from error


def _area(name: str, annotation: ElementTree.Element) -> list[shapely.Geometry]:
    """The area of one annotation; none where it is a point or a line."""
    label = f"{name}: annotation {annotation.get('Name', '')!r}"
    try:
        points = sorted(
            (int(p.get("Order", "0")), float(p.attrib["X"]), float(p.attrib["Y"]))
            for p in annotation.iter("Coordinate")
        )
        xy = np.array([point[1:] for point in points]).reshape(-1, 2)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{label} has a coordinate that is not a number ({error}); export the annotations again"
        ) from error
    if not np.isfinite(xy).all():
        raise ValueError(f"{label} has a coordinate that is not finite; export the annotations again")
    if len(np.unique(xy, axis=0)) < 3:
        logger.warning("%s has fewer than three points and is left out", label)
        return []
    polygon = Polygon(xy)
    if polygon.is_valid:
        return [polygon]
    logger.warning("%s is not a simple ring (%s) and was repaired", label, shapely.is_valid_reason(polygon))
    return [_multipolygon(shapely.make_valid(polygon))]


def _multipolygon(geometry: shapely.Geometry) -> MultiPolygon:
    """The polygons of any geometry; points and lines, left over where areas touch, are dropped."""
    return MultiPolygon(
        [part for part in shapely.get_parts(_flat(geometry)) if isinstance(part, Polygon) and not part.is_empty]
    )


def _flat(geometry: shapely.Geometry) -> np.ndarray:
    parts = shapely.get_parts(geometry)
    return shapely.get_parts(parts)  # a collection may hold multi-polygons


def _without_holes(polygons: MultiPolygon) -> Iterator[Polygon]:
    """Cut polygons into pieces that have no holes."""
    for polygon in polygons.geoms:
        if not polygon.interiors:
            yield polygon
            continue
        left, bottom, right, top = polygon.bounds
        cut = polygon.interiors[0].centroid.x
        for side in (shapely.box(left, bottom, cut, top), shapely.box(cut, bottom, right, top)):
            yield from _without_holes(_multipolygon(polygon.intersection(side)))


def _edges(polygons: MultiPolygon, downsample: float) -> Iterator[tuple[float, float, float, float]]:
    """(x0, y0, x1, y1) of all edges of all rings that are not horizontal, in cells."""
    for polygon in polygons.geoms:
        for ring in (polygon.exterior, *polygon.interiors):
            points = np.asarray(ring.coords)[:, :2] / downsample
            for (x0, y0), (x1, y1) in zip(points[:-1].tolist(), points[1:].tolist(), strict=True):
                if y0 != y1:
                    yield x0, y0, x1, y1
