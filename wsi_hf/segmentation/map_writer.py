"""The probability map of a slide on disk (zarr v3), written tile by tile and read lazily."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor
from zarr.codecs import BloscCodec

from wsi_hf.inference.reading import Damage
from wsi_hf.inference.tiling import TileGrid
from wsi_hf.segmentation.slide_score import LargestMargins

MARGINS = "margins.zarr"
LAST_BIT = 2.0**-25
"""How near to 1 a float32 probability comes; margins of blanked tiles are taken from their probabilities."""


class MapWriter:
    """Takes in the tiles of one slide: P(malignant) goes to disk, the best margin and the tissue's area are kept."""

    def __init__(
        self,
        path: Path,
        grid: TileGrid,
        attributes: dict[str, Any],
        keep_margins: bool = False,
        mpp: float = 1.0,
        scale: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        """
        Args:
            path: folder of the zarr array. Its chunks are the grid's tiles; those without tissue are not stored.
            grid: the tiles.
            attributes: what the array says of itself.
            keep_margins: write the margins l1 - l0 beside it, -inf where not analysed.
            mpp: um per pixel.
            scale: (temperature, shift): P = sigmoid((margin - shift) / temperature).
        """
        self.path, self._mpp, (self._temperature, self._shift) = path, mpp, scale
        self._largest = LargestMargins(mpp)
        width, height = grid.size_px
        self.array = zarr.create_array(
            path,
            shape=(height, width),
            chunks=(min(height, grid.tile_px[1]), min(width, grid.tile_px[0])),
            dtype="float32",
            fill_value=0.0,
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            attributes=attributes,
            dimension_names=("y", "x"),
        )
        self.margins: zarr.Array | None = None
        if keep_margins:
            self.margins = zarr.create_array(
                path.with_name(MARGINS),
                shape=self.array.shape,
                chunks=self.array.chunks,
                dtype="float32",
                fill_value=-math.inf,
                compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            )
        self._tiles: list[tuple[slice, slice]] = []  # (rows, columns) of each
        self._margins: list[float] = []  # the best of each
        self._tissue_pixels: list[int] = []

    def add(self, x_px: int, y_px: int, logits: Tensor, tissue: Tensor) -> None:
        """Store one tile; pixels that are not tissue become 0.

        Args:
            x_px, y_px: its corner.
            logits: (2, h, w).
            tissue: bool (h, w).

        Raises:
            ValueError: a logit is not finite.
        """
        margin = (logits[1] - logits[0]).masked_fill(~tissue, -torch.inf)
        best = float(margin.max())
        if math.isnan(best) or best == math.inf:
            raise ValueError("the model gives NaN or infinite logits; with float16, try bfloat16 or float32")
        place = slice(y_px, y_px + margin.shape[0]), slice(x_px, x_px + margin.shape[1])
        self.array[place] = np.asarray(torch.sigmoid((margin - self._shift) / self._temperature).cpu())
        margins = np.asarray(margin.cpu())
        self._largest.add(margins)
        if self.margins is not None:
            self.margins[place] = margins
        self._tiles.append(place)
        self._margins.append(best)
        self._tissue_pixels.append(int(tissue.sum()))

    def blank(self, damages: Iterable[Damage]) -> None:
        """Set rectangles to 0, also in tiles that were stored before their damage came to light."""
        damages = list(damages)
        self._largest = LargestMargins(self._mpp) if damages else self._largest
        for number, place in enumerate(self._tiles if damages else ()):
            p = np.asarray(self.array[place])
            before = np.count_nonzero(p)
            for damage in damages:
                rows, columns = (_within(a, b) for a, b in zip((damage.rows, damage.columns), place, strict=True))
                p[rows, columns] = 0
            if np.count_nonzero(p) < before:
                self.array[place], self._tissue_pixels[number] = p, int(np.count_nonzero(p))
                if self.margins is not None:
                    self.margins[place] = np.where(p == 0, -np.inf, self.margins[place])
                self._margins[number] = float(self._margins_at(place).max())
            self._largest.add(self._margins_at(place))

    def _margins_at(self, place: tuple[slice, slice]) -> np.ndarray:
        """The margins of a tile as they were kept, or else as its probabilities tell."""
        if self.margins is not None:
            return np.asarray(self.margins[place])
        p = torch.from_numpy(np.asarray(self.array[place]))
        margin = p.double().logit(eps=LAST_BIT) * self._temperature + self._shift
        return margin.masked_fill(p == 0, -torch.inf).float().numpy()

    @property
    def margin(self) -> float:
        """The best margin of all pixels; -inf where there are none."""
        return max(self._margins, default=-math.inf)

    def pooled_margin(self, area_um2: float) -> float:
        """The mean of the largest margins that fill an area."""
        return self._largest.mean(area_um2) if area_um2 else self.margin

    @property
    def tissue_pixels(self) -> int:
        return sum(self._tissue_pixels)


def _within(part: slice, frame: slice) -> slice:
    """A range of the slide as a range of a tile."""
    start, stop = max(part.start, frame.start), min(part.stop, frame.stop)
    return slice(start - frame.start, max(start, stop) - frame.start)
