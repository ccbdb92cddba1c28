"""The probability map of a slide on disk (zarr v3), written tile by tile and read lazily."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor
from zarr.codecs import BloscCodec

from wsi_hf.inference.tiling import TileGrid


class MapWriter:
    """Takes in the tiles of one slide: P(malignant) goes to disk, the best margin and the tissue's area are kept."""

    def __init__(self, path: Path, grid: TileGrid, attributes: dict[str, Any]) -> None:
        """
        Args:
            path: folder of the zarr array. Its chunks are the grid's tiles; those without tissue are not stored.
            grid: the tiles.
            attributes: what the array says of itself.
        """
        self.path = path
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
        self.margin = -math.inf
        self.tissue_pixels = 0

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
        height, width = margin.shape
        self.array[y_px : y_px + height, x_px : x_px + width] = np.asarray(torch.sigmoid(margin).cpu())
        self.tissue_pixels += int(tissue.sum())
        self.margin = max(self.margin, best)
