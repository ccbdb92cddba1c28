"""From a tumour mask to the lesions that the challenge counts.

Lesions are made of tumour pixels as CAMELYON16 does it: the outline grows by 37.5 um, so that foci nearer than about
75 um merge, holes are filled and the regions are labelled. Regions too short to be a metastasis are isolated tumour
cells (ITC).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import measure

LEVEL = 5
MPP_L0 = 0.243
MASK_UM = MPP_L0 * 2**LEVEL
"""Side of a mask pixel in the challenge, 7.776 um."""
MERGE_UM = 75.0
ITC_UM = 275.0
"""200 um, the clinical limit of isolated tumour cells, and the 75 um by which the outline has grown."""


@dataclass(frozen=True)
class Lesions:
    """The labelled regions of one slide.

    Attributes:
        windows: disjoint parts of the mask that hold whole regions: the (row, column) where a part begins, and its
            labels, 0 outside and 1, 2, ... inside regions, shape (h, w).
        n_regions: number of regions, isolated tumour cells included; their labels are 1 to n_regions.
        itc_labels: those of the regions that are isolated tumour cells.
    """

    windows: tuple[tuple[tuple[int, int], NDArray[np.int32]], ...]
    n_regions: int
    itc_labels: tuple[int, ...]

    @property
    def lesion_labels(self) -> tuple[int, ...]:
        return tuple(label for label in range(1, self.n_regions + 1) if label not in self.itc_labels)

    def at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int32]:
        """Look up the label at mask pixels, shape (n,); 0 wherever there is no region, also outside the mask."""
        found = np.zeros(len(rows), np.int32)
        for (top, left), labels in self.windows:
            y, x = rows - top, columns - left
            inside = (y >= 0) & (y < labels.shape[0]) & (x >= 0) & (x < labels.shape[1])
            found[inside] = labels[y[inside], x[inside]]
        return found


def find_lesions(tumour: ArrayLike, pixel_um: float = MASK_UM, itc_um: float = ITC_UM) -> Lesions:
    """Label the lesions of one slide and tell isolated tumour cells apart.

    Args:
        tumour: nonzero where there is tumour, shape (H, W).
        pixel_um: side of a mask pixel in um; the default is the challenge's level 5.
        itc_um: a region whose major axis is shorter is isolated tumour cells; 0 calls every region a lesion.
    """
    pixels = np.asarray(tumour).astype(bool, copy=False)
    reach = MERGE_UM / (pixel_um * 2)
    windows, n_regions, itc_labels = [], 0, []
    for window in _windows(pixels, margin=int(np.ceil(reach)) + 1):
        filled = fill_holes(grow(pixels[window], reach))
        labels = measure.label(filled, connectivity=2)
        regions = measure.regionprops_table(labels, properties=("label", "axis_major_length"))
        itc_labels += (n_regions + regions["label"][regions["axis_major_length"] < itc_um / pixel_um]).tolist()
        numbered = np.where(labels > 0, labels + n_regions, 0).astype(np.int32)
        windows.append(((window[0].start, window[1].start), numbered))
        n_regions += len(regions["label"])
    return Lesions(tuple(windows), n_regions, tuple(itc_labels))


def evaluation_mask(tumour: ArrayLike, mpp: float = MPP_L0, downsample: float = 2**LEVEL) -> NDArray[np.int32]:
    """Label the lesions over the whole mask: the challenge's "evaluation mask".

    Args:
        tumour: nonzero where there is tumour, shape (H, W).
        mpp: um per level-0 pixel.
        downsample: level-0 pixels per mask pixel.

    Returns:
        0 outside and 1, 2, ... inside lesions and isolated tumour cells, shape (H, W).
    """
    lesions = find_lesions(tumour, mpp * downsample)
    whole = np.zeros(np.shape(tumour), np.int32)
    for (top, left), labels in lesions.windows:
        whole[top : top + labels.shape[0], left : left + labels.shape[1]] = labels
    return whole


def grow(tumour: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """Mark the pixels whose Euclidean distance to the nearest tumour pixel is below `reach` pixels.

    A disc is a stack of horizontal bars, so this is a few running maxima: the same pixels as a distance transform
    finds, ten times faster.
    """
    grown = np.zeros_like(tumour)
    steps, width = range(int(np.ceil(reach))), -1
    for dy in steps[: len(tumour)]:
        half_width = max(dx for dx in steps if np.hypot(dy, dx) < reach)
        if half_width != width:
            width = half_width
            bars = ndimage.maximum_filter1d(tumour.view(np.uint8), 2 * width + 1, axis=1, mode="constant").view(bool)
        grown[dy:] |= bars[: len(bars) - dy]
        grown[: len(grown) - dy] |= bars[dy:]
    return grown


def fill_holes(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the holes of a region: background that 4-connected steps do not lead to the array's edge.

    As SciPy's `binary_fill_holes`, which grows the background from the edge step by step, with one labelling instead.
    """
    background, n = ndimage.label(~region)
    open_ = np.zeros(n + 1, bool)
    for edge in (background[0], background[-1], background[:, 0], background[:, -1]):
        open_[edge] = True
    open_[0] = False  # the region itself
    return ~open_[background]


def _windows(tumour: NDArray[np.bool_], margin: int) -> list[tuple[slice, slice]]:
    """Cut out disjoint rectangles that together hold all tumour, at least `margin` pixels from an edge inside the mask.

    No region, and no hole in one, reaches from one rectangle into another, so each is worked on alone: most of a slide
    is never looked at.
    """
    block = max(32, margin)
    bands = [tumour[top : top + block].any(axis=0) for top in range(0, tumour.shape[0], block)]
    coarse = np.logical_or.reduceat(np.array(bands), np.arange(0, tumour.shape[1], block), axis=1)
    coarse = ndimage.maximum_filter(coarse, 3)
    while True:  # until all groups of blocks are rectangles
        boxes = ndimage.find_objects(measure.label(coarse, connectivity=2))
        covered = np.count_nonzero(coarse)
        for box in boxes:
            coarse[box] = True
        if np.count_nonzero(coarse) == covered:
            return [(_in_pixels(rows, block), _in_pixels(columns, block)) for rows, columns in boxes]


def _in_pixels(blocks: slice, block: int) -> slice:
    return slice(blocks.start * block, blocks.stop * block)
