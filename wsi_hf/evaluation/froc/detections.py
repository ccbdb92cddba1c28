"""Detections out of a probability map: where on the slide the malignant peaks stand. Not in the paper."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from wsi_hf.evaluation.blocks import MapLike, read_block, row_blocks


def find_detections(
    probabilities: MapLike,
    ratio: float,
    mpp: float,
    radius_um: float = 187.0,
    threshold: float = 0.01,
    cell_um: float = 16.0,
    method: Literal["suppression", "components"] = "suppression",
) -> NDArray[np.float64]:
    """Find the peaks of a probability map.

    The map is reduced to the maximum of each cell, a band of rows at a time. "suppression" takes the highest cell,
    drops all cells whose peak lies within `radius_um` of its own, and goes on with the next. "components" takes the
    peak of each 8-connected group of cells at or above the threshold.

    Peaks are ordered by descending score; equal scores by row, then by column, of the peak's pixel. The same order
    decides ties inside a cell and a group.

    Args:
        probabilities: P(malignant), shape (H, W), read lazily as `probabilities[rows, columns]`. Logit margins serve as
            well, with `threshold` a margin: they rank pixels whose probability has rounded to 1.
        ratio: level-0 pixels per map pixel.
        mpp: um per map pixel.
        radius_um: no two detections of "suppression" are as near as this. 187 um is half the width used by NCRF.
        threshold: lowest score of a detection.
        cell_um: side of a cell.
        method: "suppression" or "components".

    Returns:
        score, x_l0, y_l0, shape (n, 3). The level-0 coordinates are integers, int((i + 0.5) * ratio).
    """
    if method not in ("suppression", "components"):
        raise ValueError(f'method must be "suppression" or "components", not {method!r}')
    cell = max(1, round(cell_um / mpp))
    score, row, column = reduce_to_cells(probabilities, cell)
    if method == "suppression":
        peaks = _suppress(score, row, column, threshold, radius_um / mpp, cell)
    else:
        peaks = _peaks_of_components(score, row, column, threshold)
    row, column = row.flat[peaks], column.flat[peaks]
    return np.stack([score.flat[peaks], np.trunc((column + 0.5) * ratio), np.trunc((row + 0.5) * ratio)], axis=1)


def reduce_to_cells(
    probabilities: MapLike, cell: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Reduce a map to the maximum of each `cell` x `cell` square; the last row and column of cells may be narrower.

    Args:
        probabilities: shape (H, W), read band by band.
        cell: side of a cell in map pixels.

    Returns:
        The maximum of each cell, and the row and column of the first of its pixels that reaches it, each of shape
        (ceil(H / cell), ceil(W / cell)).
    """
    height, width = probabilities.shape
    shape = (-(-height // cell), -(-width // cell))
    score, row, column = np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for block in row_blocks((height, width), multiple=cell):
        values = read_block(probabilities, block)
        if np.isnan(values).any():
            raise ValueError(f"the probability map holds NaN in rows {block[0].start} to {block[0].stop}")
        cells = slice(block[0].start // cell, -(-block[0].stop // cell))
        score[cells], inside = _cell_maxima(values, cell)
        row[cells] = inside // cell + np.arange(cells.start, cells.stop)[:, None] * cell
        column[cells] = inside % cell + np.arange(shape[1]) * cell
    return score, row, column


def _cell_maxima(values: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the maximum of each cell and its place in the cell, counted row by row."""
    h, w = -(-values.shape[0] // cell), -(-values.shape[1] // cell)
    if values.dtype.kind != "f":
        values = values.astype(np.float32)
    padding = ((0, h * cell - values.shape[0]), (0, w * cell - values.shape[1]))
    padded = np.pad(values, padding, constant_values=-np.inf)
    cells = padded.reshape(h, cell, w, cell).swapaxes(1, 2).reshape(h, w, cell * cell)
    inside = cells.argmax(axis=2)
    return np.take_along_axis(cells, inside[..., None], axis=2)[..., 0], inside


def _in_order(score: np.ndarray, row: np.ndarray, column: np.ndarray, threshold: float) -> NDArray[np.int64]:
    """Sort the cells at or above the threshold: best first, ties by row, then by column of their peaks."""
    candidates = np.flatnonzero(score >= threshold)
    return candidates[np.lexsort((column.flat[candidates], row.flat[candidates], -score.flat[candidates]))]


def _suppress(
    score: np.ndarray, row: np.ndarray, column: np.ndarray, threshold: float, radius: float, cell: int
) -> NDArray[np.int64]:
    """Keep the peaks that have no better kept peak within `radius` map pixels; flat indices, best first."""
    alive = score >= threshold
    reach = int(radius // cell) + 1  # cells
    kept = []
    for index in _in_order(score, row, column, threshold).tolist():
        i, j = divmod(index, score.shape[1])
        if not alive[i, j]:
            continue
        kept.append(index)
        near = (slice(max(0, i - reach), i + reach + 1), slice(max(0, j - reach), j + reach + 1))
        distance = np.hypot(row[near] - row[i, j], column[near] - column[i, j])
        alive[near] &= distance > radius
    return np.array(kept, np.int64)


def _peaks_of_components(score: np.ndarray, row: np.ndarray, column: np.ndarray, threshold: float) -> NDArray[np.int64]:
    """Take the best peak of each 8-connected group of cells at or above the threshold; flat indices, best first."""
    labels = measure.label(score >= threshold, connectivity=2)
    order = _in_order(score, row, column, threshold)
    _, first = np.unique(labels.flat[order], return_index=True)
    return order[np.sort(first)]
