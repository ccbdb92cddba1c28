"""A mask over a whole slide that is rasterised only where it is read."""

from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon
from shapely.affinity import translate

from wsi_hf.slides.annotations import rasterize


class PolygonMask:
    """Polygons as a lazy bool array: `mask[rows, columns]` rasterises that part alone.

    A whole slide at 1 um/px is a billion pixels; its outline is a few thousand points.

    Args:
        polygons: level-0 coordinates (x, y).
        shape: (H, W) of the mask.
        downsample: level-0 pixels per mask pixel.
    """

    def __init__(self, polygons: shapely.Geometry, shape: tuple[int, ...], downsample: float) -> None:
        self.shape = (shape[0], shape[1])
        self.downsample = downsample
        self._parts = [part for part in shapely.get_parts(polygons) if part.geom_type == "Polygon"]

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self._parts)

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.bool_]:
        (top, bottom, _), (left, right, _) = (part.indices(n) for part, n in zip(key, self.shape, strict=True))
        shape = (max(0, bottom - top), max(0, right - left))
        around = 1  # a mask pixel more than the window, so that clipping adds no edge inside it
        window = shapely.box(
            *(self.downsample * bound for bound in (left - around, top - around, right + around, bottom + around))
        )
        near = [self._parts[i].intersection(window) for i in self._tree.query(window)]
        polygons = [part for piece in near for part in shapely.get_parts(piece) if part.geom_type == "Polygon"]
        if not polygons or 0 in shape:
            return np.zeros(shape, bool)
        moved = translate(MultiPolygon(polygons), -left * self.downsample, -top * self.downsample)
        return rasterize(moved, shape, self.downsample)
