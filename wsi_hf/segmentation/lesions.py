"""Lesions of a probability map: connected pixels over a threshold, found tile by tile, as GeoJSON."""

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from scipy import ndimage
from shapely import affinity
from shapely.geometry import MultiPolygon, Polygon, mapping, shape
from shapely.geometry.polygon import orient

from wsi_hf.inference.reading import Damage
from wsi_hf.inference.tiling import Tile
from wsi_hf.segmentation.outlines import trace_outlines, without_straight_points
from wsi_hf.slides.outlines.geojson import LEVEL_0, QUPATH
from wsi_hf.slides.replacing import replacing

RED, GREY = (200, 0, 0), (128, 128, 128)
NAMESPACE = uuid.UUID("4b5cbb0c-4d4f-5f0e-9c39-6d1f4a8b2d11")
"""Of the features' ids, which follow from class and outline: the same result has the same ids."""


@dataclass
class Lesion:
    """One lesion, while it is put together in map pixels and when it is whole in level-0 pixels.

    polygons: its outline; before it is whole, a piece a tile.
    """

    pixels: int = 0
    largest: float = 0.0
    total: float = 0.0
    polygons: list[Polygon] = field(default_factory=list)

    def take(self, other: "Lesion") -> None:
        self.pixels += other.pixels
        self.largest = max(self.largest, other.largest)
        self.total += other.total
        self.polygons += other.polygons


def find_lesions(
    probabilities: Any,
    tiles: Iterable[Tile],
    threshold: float,
    smallest_px: float,
    downsample: float,
    outlines: bool = True,
) -> list[Lesion]:
    """Find the groups of pixels with p >= threshold that touch at their sides.

    One tile is in memory at a time, so that memory grows with the lesions and not with the slide.

    Args:
        probabilities: P(malignant), shape (H, W), sliced `[rows, columns]`.
        tiles: where to look, row by row; neighbours are joined across their borders.
        threshold: lowest probability of a lesion's pixel.
        smallest_px: lesions of fewer pixels are left out.
        downsample: level-0 pixels a map pixel.
        outlines: trace them; without, lesions have no polygons.

    Returns:
        Lesions with one polygon each, valid, in level-0 coordinates: the most probable first, then the larger.
    """
    joined = _JoinedLesions(probabilities.shape[1], outlines)
    for tile in tiles:
        joined.add(tile, np.asarray(probabilities[tile.rows, tile.columns]), threshold, smallest_px)
    lesions = [_whole(lesion, downsample) for lesion in joined.lesions() if lesion.pixels >= smallest_px]
    if not outlines:
        return sorted(lesions, key=lambda lesion: (-lesion.largest, -lesion.pixels))
    return sorted(lesions, key=lambda lesion: (-lesion.largest, -lesion.pixels, lesion.polygons[0].bounds))


class _JoinedLesions:
    """Joins the components of tiles across the tiles' borders (union-find over component numbers)."""

    def __init__(self, width: int, outlines: bool = True) -> None:
        self._outlines = outlines
        self._parts: dict[int, Lesion] = {}
        self._parent: dict[int, int] = {}
        self._next = 1
        self._above = np.zeros(width, np.int64)  # numbers along the lowest row seen so far in each column
        self._above_y = np.full(width, -1)
        self._left: tuple[Tile, np.ndarray] | None = None

    def add(self, tile: Tile, p: np.ndarray, threshold: float, smallest_px: float) -> None:
        labels, count = ndimage.label(p >= threshold)
        numbers = np.where(labels > 0, labels + (self._next - 1), 0).astype(np.int64)
        if count:
            self._add_parts(tile, p, labels, count, smallest_px)
            self._join_above(tile, numbers[0])
            if self._left and self._left[0].y_px == tile.y_px and self._left[0].columns.stop == tile.x_px:
                self._join(self._left[1], numbers[:, 0])
        self._next += count
        self._above[tile.columns], self._above_y[tile.columns] = numbers[-1], tile.rows.stop
        self._left = (tile, numbers[:, -1].copy())

    def lesions(self) -> Iterator[Lesion]:
        whole: dict[int, Lesion] = {}
        for number, part in self._parts.items():
            whole.setdefault(self._root(number), Lesion()).take(part)
        return iter(whole.values())

    def _add_parts(self, tile: Tile, p: np.ndarray, labels: np.ndarray, count: int, smallest_px: float) -> None:
        pixels, total = np.bincount(labels.ravel())[1:], np.bincount(labels.ravel(), p.ravel())[1:]
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        kept = pixels >= smallest_px  # small ones inside a tile cannot grow any more
        kept[border[border > 0] - 1] = True
        inside = np.append(False, kept)[labels]
        largest = np.full(count, -np.inf)
        np.maximum.at(largest, labels[inside] - 1, p[inside])
        for i in np.flatnonzero(kept).tolist():
            self._parts[self._next + i] = Lesion(int(pixels[i]), float(largest[i]), float(total[i]))
        if not self._outlines:
            return
        for label, polygon in trace_outlines(np.where(np.append(False, kept)[labels], labels, 0)).items():
            part = self._parts[self._next + label - 1]
            part.polygons.append(affinity.translate(polygon, tile.x_px, tile.y_px))

    def _join_above(self, tile: Tile, first_row: np.ndarray) -> None:
        above = np.where(self._above_y[tile.columns] == tile.y_px, self._above[tile.columns], 0)
        self._join(above, first_row)

    def _join(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        touching = (ours > 0) & (theirs > 0)
        for a, b in np.unique(np.stack([ours[touching], theirs[touching]], axis=1), axis=0).tolist():
            self._parent[self._root(a)] = self._root(b)

    def _root(self, number: int) -> int:
        while (parent := self._parent.get(number, number)) != number:
            self._parent[number] = self._parent.get(parent, parent)
            number = parent
        return number


def _whole(lesion: Lesion, downsample: float) -> Lesion:
    if not lesion.polygons:
        return lesion
    outline = lesion.polygons[0]
    if len(lesion.polygons) > 1:
        outline = without_straight_points(shapely.union_all(lesion.polygons))
    outline = shapely.transform(outline, lambda xy: xy * downsample)
    return Lesion(lesion.pixels, lesion.largest, lesion.total, [outline])


def write_geojson(
    path: Path,
    lesions: Iterable[Lesion],
    damages: Iterable[Damage],
    label: str,
    map_mpp: float,
    downsample: float,
    made_by: str | None = None,
    origin_l0: tuple[int, int] = (0, 0),
) -> None:
    """Write lesions, and rectangles that were not analysed, as QuPath annotations.

    Coordinates are level-0 pixels, from `origin_l0`; `frame` in the file says so, see `slides.geojson`.

    Args:
        label: the lesions' class.
        map_mpp: um per map pixel, for areas.
        downsample: level-0 pixels a map pixel.
        made_by: the model, as it stands in the file.
        origin_l0: (x, y) of the point that coordinates are counted from: the corner of the slide's bounds is QuPath's,
            (0, 0), the corner of the whole canvas, OpenSlide's.
    """
    frame = {"name": QUPATH if any(origin_l0) else LEVEL_0, "origin_l0": list(origin_l0), "unit": "level-0 pixels"}
    features = (*lesion_features(lesions, label, map_mpp), *_damage_features(damages, downsample))
    with replacing(path) as part, open(part, "w", encoding="utf-8") as file:
        file.write(f'{{"type": "FeatureCollection", "made_by": {json.dumps(made_by)}, ')
        file.write(f'"frame": {json.dumps(frame)}, "features": [')
        for number, feature in enumerate(features):
            file.write((",\n" if number else "\n") + json.dumps(_moved(feature, origin_l0)))
        file.write("\n]}\n")


def _moved(feature: dict[str, Any], origin_l0: tuple[int, int]) -> dict[str, Any]:
    """A feature in coordinates from another origin."""
    if not any(origin_l0):
        return feature
    geometry = shapely.transform(shape(feature["geometry"]), lambda xy: xy - np.asarray(origin_l0))
    return feature | {"geometry": mapping(geometry)}


def damage_box(damage: Damage) -> Polygon:
    return shapely.box(damage.columns.start, damage.rows.start, damage.columns.stop, damage.rows.stop)


def unread_areas(damages: Iterable[Damage]) -> list[Polygon]:
    """What overlapping rectangles cover together, in map pixels."""
    return list(shapely.get_parts(shapely.union_all([damage_box(damage) for damage in damages])))


def lesion_features(lesions: Iterable[Lesion], label: str, map_mpp: float) -> Iterator[dict[str, Any]]:
    """Lesions as GeoJSON features; arguments as for `write_geojson`."""
    for number, lesion in enumerate(lesions, start=1):
        outline = [orient(polygon) for polygon in lesion.polygons]
        measurements = {
            "Max probability": lesion.largest,
            "Mean probability": lesion.total / lesion.pixels,
            "Area um^2": lesion.pixels * map_mpp**2,
        }
        geometry = outline[0] if len(outline) == 1 else MultiPolygon(outline)
        yield _feature(geometry, f"{label} {number}", label, RED, measurements)


def _damage_features(damages: Iterable[Damage], downsample: float) -> Iterator[dict[str, Any]]:
    for area in unread_areas(damages):
        outline = shapely.transform(area, lambda xy: xy * downsample)
        yield _feature(orient(outline), "not analysed: unreadable", "not analysed", GREY, {})


def _feature(
    geometry: shapely.Geometry, name: str, label: str, colour: tuple[int, int, int], measurements: dict[str, float]
) -> dict:
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, f"{label} {geometry.wkb_hex}")),
        "geometry": mapping(geometry),
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": label, "color": list(colour)},
            "measurements": measurements,
        },
    }
