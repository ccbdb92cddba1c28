"""What a picture of a slide needs: its thumbnail, its probability map made small, its outline."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from wsi_hf.evaluation.blocks import MapLike, read_block, row_blocks


@dataclass(frozen=True)
class OverlayPanel:
    """One slide of a picture. Image, probabilities and truth span the same field at resolutions of their own.

    Attributes:
        image: thumbnail of the slide, uint8, shape (H, W, 3).
        probabilities: P(malignant), shape (h, w), read lazily.
        truth: annotated tumour, as a mask of any shape, or as polygons in level-0 coordinates; None draws no outline.
        title: name, label and score of the slide.
        dimensions_l0: (width, height) of the slide, needed for polygons.
        mpp: um per pixel of `image`, for the scale bar.
    """

    image: NDArray[np.uint8]
    probabilities: MapLike
    truth: ArrayLike | shapely.Geometry | None = None
    title: str = ""
    dimensions_l0: tuple[int, int] | None = None
    mpp: float | None = None


def reduce_map(probabilities: MapLike, longest_side: int = 1024) -> NDArray[np.float32]:
    """Shrink a map for display: the mean of square cells, read a band of rows at a time."""
    height, width = probabilities.shape
    cell = -(-max(height, width) // longest_side)
    columns = np.arange(0, width, cell)
    reduced = np.zeros((-(-height // cell), len(columns)), np.float32)
    for block in row_blocks((height, width), multiple=cell):
        values = read_block(probabilities, block).astype(np.float32)
        rows = np.arange(0, len(values), cell)
        sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
        area = np.diff(np.append(rows, len(values)))[:, None] * np.diff(np.append(columns, width))
        top = block[0].start // cell
        reduced[top : top + len(rows)] = sums / area
    return reduced
