"""The logit margins l1 - l0 of a slide, on disk: they rank what has the same rounded probability, 1."""

import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.special import expit

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.streaming import stream_tiles
from wsi_hf.slides.slide import Slide


class MarginMap:
    """Margins of every pixel at the model's mpp, read lazily as `margins[rows, columns]`; -inf where not analysed.

    The map lies in a temporary folder that goes with it.
    """

    def __init__(self, network: PixelNetwork, slide: Slide, tile_size: int | None = None):
        width, height = slide.size_px(network.mpp)
        self.shape, self.mpp, self.largest = (height, width), network.mpp, -np.inf
        folder = Path(mkdtemp(prefix="wsi_hf-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        chunks = (min(height, 1024), min(width, 1024))
        self._array = zarr.create_array(folder, shape=self.shape, chunks=chunks, dtype="float32", fill_value=-np.inf)
        for tile in stream_tiles(network, slide, tile_size=tile_size):
            margin = (tile.logits[1] - tile.logits[0]).masked_fill(~tile.tissue, -np.inf).cpu().numpy()
            self._array[tile.y_px : tile.y_px + margin.shape[0], tile.x_px : tile.x_px + margin.shape[1]] = margin
            self.largest = max(self.largest, float(margin.max()))

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.float32]:
        return np.asarray(self._array[key])

    @property
    def probabilities(self) -> "Probabilities":
        return Probabilities(self)


class Probabilities:
    """P(malignant) of every pixel, computed from the margins where it is read; 0 where not analysed."""

    def __init__(self, margins: MarginMap):
        self.margins, self.shape = margins, margins.shape

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.float32]:
        return expit(self.margins[key])
