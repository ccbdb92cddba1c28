"""Tiles fitted to the tissue: of a tile that is tissue in part, the few rectangles that cost the network least.

A tile's tissue is boxed in; a box is cut in two, each half boxed in anew, wherever that saves more than the margins of
one more box cost. What is cut where depends on the tissue alone, never on who computes it or with what else.
"""

from collections.abc import Callable, Iterator

import numpy as np

Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(heights, widths) of boxes -> what each costs; at least in proportion to its area."""
Box = tuple[int, int, int, int]
"""(top, bottom, left, right) in blocks, the ends left out."""


def fit(occupied: np.ndarray, cost: Cost) -> list[Box]:
    """Boxes that hold all occupied blocks, none twice, from top to bottom.

    Args:
        occupied: which blocks hold tissue, bool (rows, columns).
        cost: of boxes, by their sizes in blocks.
    """
    return sorted(_fit(occupied, 0, 0, cost))


def _fit(occupied: np.ndarray, top: int, left: int, cost: Cost) -> Iterator[Box]:
    rows, columns = np.flatnonzero(occupied.any(1)), np.flatnonzero(occupied.any(0))
    if not len(rows):
        return
    boxed = occupied[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = top + int(rows[0]), left + int(columns[0])
    height, width = boxed.shape
    if not boxed.all():
        across, at_row = _best_cut(boxed, cost)
        along, at_column = _best_cut(boxed.T, lambda h, w: cost(w, h))
        if min(across, along) < cost(np.array(height), np.array(width)):
            if across <= along:
                yield from _fit(boxed[:at_row], top, left, cost)
                yield from _fit(boxed[at_row:], top + at_row, left, cost)
            else:
                yield from _fit(boxed[:, :at_column], top, left, cost)
                yield from _fit(boxed[:, at_column:], top, left + at_column, cost)
            return
    yield top, top + height, left, left + width


def _best_cut(occupied: np.ndarray, cost: Cost) -> tuple[float, int]:
    """(what the two halves cost, the row to cut before) of the cheapest cut between rows; infinite if there is none."""
    if len(occupied) < 2:
        return np.inf, 0
    price = cost(*_boxes(occupied)[:, :-1]) + cost(*_boxes(occupied[::-1])[:, -2::-1])
    at = int(np.argmin(price))
    return float(price[at]), at + 1


def _boxes(occupied: np.ndarray) -> np.ndarray:
    """Sizes of the boxes of the first 1, 2, ... rows, the first of which is occupied: (2, rows), heights and widths."""
    so_far = np.logical_or.accumulate(occupied, axis=0)
    widths = occupied.shape[1] - so_far[:, ::-1].argmax(1) - so_far.argmax(1)
    numbers = np.arange(1, len(occupied) + 1)
    return np.stack([np.maximum.accumulate(np.where(occupied.any(1), numbers, 0)), widths])
