"""From a file's rings of points to the area of a tumour, within bounds of time and memory."""

import logging

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

logger = logging.getLogger(__name__)

TUMOUR_GROUPS = frozenset(
    {"_0", "_1", "tumor", "tumour", "tumors", "tumours", "metastases", "metastasis", "malignant", "cancer", "carcinoma"}
)
EXCLUSION_GROUPS = frozenset({"_2", "exclusion", "exclusions", "normal", "benign", "healthy"})
NO_GROUP = "none"
MOST_POINTS = 3_000_000
"""Of one ring."""
MOST_CROSSINGS = 5_000
"""Of a ring with itself: hands cross their own line now and then, tangles cross it everywhere."""
FINE_POINTS, FINE_PX = 20_000, 0.25
"""Rings of more points than this lose those that move the outline by less than this, in level-0 pixels."""


def area_of(xy: np.ndarray, label: str) -> list[shapely.Geometry]:
    """The area inside a ring of points, (n, 2); nothing where it is a point or a line.

    A ring that crosses itself holds all that it goes round, so that a free-hand line whose ends overlap has no hole.

    Raises:
        ValueError: it is no outline of anything; `label` stands first in the message.
    """
    if not np.isfinite(xy).all():
        raise ValueError(f"{label} has a coordinate that is not finite; export the annotations again")
    if np.abs(xy).max(initial=0) > 1e9:
        raise ValueError(f"{label} has a coordinate beyond any slide; export the annotations again")
    if len(xy) > MOST_POINTS:
        raise ValueError(f"{label} has {len(xy)} points, more than {MOST_POINTS}; draw it more coarsely")
    if len(xy) < 3 or len(np.unique(xy, axis=0)) < 3:
        logger.warning("%s has fewer than three points and is left out", label)
        return []
    _refuse_tangles(xy, label)
    polygon = Polygon(xy)
    if len(xy) > FINE_POINTS and polygon.is_valid:
        finer = polygon.simplify(FINE_PX, preserve_topology=False)
        polygon = finer if isinstance(finer, Polygon) and not finer.is_empty else polygon
    if polygon.is_valid:
        return [polygon]
    logger.warning("%s is not a simple ring (%s) and was repaired", label, shapely.is_valid_reason(polygon))
    return [multipolygon(shapely.make_valid(polygon, method="structure", keep_collapsed=False))]


def tumour_of(areas: dict[str, list[shapely.Geometry]], name: str) -> MultiPolygon:
    """Tumour less what is excluded, from {group: its areas}; groups are told by their names in small letters.

    Areas without a group count as tumour in files whose areas all lack one; beside grouped ones, and in groups of any
    other name, they are left out, and the log says so.

    Raises:
        ValueError: there are areas, and none of them is of a group that is known.
    """
    if set(areas) == {NO_GROUP}:
        areas = {"tumor": areas[NO_GROUP]}
    unknown = {group: len(found) for group, found in areas.items() if group not in TUMOUR_GROUPS | EXCLUSION_GROUPS}
    if unknown and not set(areas) & TUMOUR_GROUPS and any(areas[group] for group in unknown):
        raise ValueError(
            f"{name} holds no tumour, but annotations of {', '.join(map(repr, sorted(unknown)))}; tumour is called one "
            f"of {', '.join(sorted(TUMOUR_GROUPS))}"
        )
    for group, count in unknown.items():
        logger.warning("%s: %d annotations of group %r are left out", name, count, group)
    tumour = shapely.union_all([area for group in TUMOUR_GROUPS for area in areas.get(group, [])])
    excluded = shapely.union_all([area for group in EXCLUSION_GROUPS for area in areas.get(group, [])])
    return multipolygon(tumour.difference(excluded))


def multipolygon(geometry: shapely.Geometry) -> MultiPolygon:
    """The polygons of any geometry; points and lines, left over where areas touch, are dropped."""
    parts = shapely.get_parts(shapely.get_parts(geometry))  # a collection may hold multi-polygons
    return MultiPolygon([part for part in parts if isinstance(part, Polygon) and not part.is_empty])


def _refuse_tangles(xy: np.ndarray, label: str) -> None:
    """Count how often a ring crosses itself, as far as need be: a few segments with all others, then many near by."""
    closed = np.concatenate([xy, xy[:1]])
    order = np.random.default_rng(0).permutation(len(xy))
    few = order[:64]
    tangled = _crossings(closed, few) > 20 * len(few)
    if not tangled and not Polygon(xy).is_valid:
        segments = shapely.linestrings(np.stack([closed[:-1], closed[1:]], axis=1))
        tree, crossings = shapely.STRtree(segments), 0
        for start in range(0, min(len(order), 20_000), 16):
            chunk = order[start : start + 16]
            ours, theirs = tree.query(segments[chunk], predicate="crosses")
            crossings += int(np.count_nonzero(chunk[ours] != theirs))
            if tangled := crossings > MOST_CROSSINGS:
                break
    if tangled:
        raise ValueError(
            f"{label} crosses itself nearly everywhere: {len(xy)} points in no order are not an outline; "
            "export the annotations again"
        )


def _crossings(closed: np.ndarray, few: np.ndarray) -> int:
    """How many segments of a closed ring, (n + 1, 2), cross the few of these numbers, all told."""
    start, end, count = closed[few][:, None], closed[few + 1][:, None], 0  # (f, 1, 2)
    for first in range(0, len(closed) - 1, 2**14):
        line = closed[first : first + 2**14 + 1][None]  # (1, m + 1, 2)
        side = _turn(start, end, line)  # on which side of ours their points lie
        ours = _turn(line[:, :-1], line[:, 1:], start) * _turn(line[:, :-1], line[:, 1:], end)
        count += int(np.count_nonzero((side[:, :-1] * side[:, 1:] < 0) & (ours < 0)))
    return count


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Sign of the turn at b on the way from a to c; shapes (..., 2) that broadcast."""
    u, v = b - a, c - a
    return np.sign(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])
