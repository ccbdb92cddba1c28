"""Outlines of labelled pixels along the pixels' edges, holes included, in time linear in their length."""

import numpy as np
import shapely
from shapely.geometry import Polygon

RIGHT, DOWN, LEFT, UP = range(4)
"""Directions of an edge; each next one is a turn to the right. Pixels lie to the right of their edges."""


def trace_outlines(labels: np.ndarray) -> dict[int, Polygon]:
    """Outline each label.

    Args:
        labels: int (H, W), 0 = nothing; the pixels of a label are connected through their sides.

    Returns:
        One valid polygon a label, in pixels (x, y) from the array's corner.
    """
    rings: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for label, ring in _rings(labels):
        x, y = ring.T.astype(float)
        area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
        rings.setdefault(label, ([], []))[0 if area > 0 else 1].append(ring)
    return {label: _valid(Polygon(shells[0], holes)) for label, (shells, holes) in rings.items()}


def without_straight_points(polygon: Polygon) -> Polygon:
    """Drop the points on straight edges of an outline along pixel edges (left over where tiles were joined)."""
    return Polygon(_corners(polygon.exterior), [_corners(ring) for ring in polygon.interiors])


def _corners(ring: shapely.LinearRing) -> np.ndarray:
    points = np.asarray(ring.coords)[:-1]
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    straight = ((before == points) & (points == after)).any(axis=1)
    return points[~straight]


def _valid(polygon: Polygon) -> Polygon:
    """A ring that touches itself at a corner, where its two ends meet diagonally, is a shell and a hole."""
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def _rings(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """All closed walks along the edges, as (label, corners (n, 2) in x, y); shells run clockwise, holes do not."""
    starts, following = _edges(labels)
    width = labels.shape[1] + 1
    points, directions = np.divmod(starts, 4)
    y, x = np.divmod(points, width)
    inside_y, inside_x = y - np.isin(directions, (LEFT, UP)), x - np.isin(directions, (DOWN, LEFT))
    label = labels[inside_y, inside_x]
    after, walked, rings = following.tolist(), bytearray(len(starts)), []
    for first in range(len(starts)):
        if walked[first]:
            continue
        walk, edge = [], first
        while not walked[edge]:
            walked[edge] = 1
            walk.append(edge)
            edge = after[edge]
        path = np.array(walk)
        turns = path[directions[path] != np.roll(directions[path], 1)]
        rings.append((int(label[first]), np.stack([x[turns], y[turns]], axis=1)))
    return rings


def _edges(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The unit edges between pixels of a label and others: (4 * start point + direction, sorted; index of the next).

    Where pixels touch at a corner only, the walk turns right, round its own pixel.
    """
    inside = np.pad(labels > 0, 1)
    here, above, left, diagonal = inside[1:, 1:], inside[:-1, 1:], inside[1:, :-1], inside[:-1, :-1]
    leaving = np.stack([here & ~above, left & ~here, diagonal & ~left, above & ~diagonal], axis=-1)  # (H + 1, W + 1, 4)
    starts = np.flatnonzero(leaving)
    points, directions = np.divmod(starts, 4)
    ends = points + np.array([1, leaving.shape[1], -1, -leaving.shape[1]])[directions]
    turned = (directions[:, None] + (1, 0, 3)) % 4  # right, straight on, left
    possible = leaving.reshape(-1, 4)[ends[:, None], turned]
    chosen = np.take_along_axis(turned, possible.argmax(axis=1)[:, None], axis=1)[:, 0]
    return starts, np.searchsorted(starts, 4 * ends + chosen)
