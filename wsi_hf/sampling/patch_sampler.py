"""Where the next patch lies: pixels drawn with P(i, j) = Q_ij^alpha / sum Q^alpha (paper, section 5)."""

import numpy as np

from wsi_hf.sampling.probability_map import ProbabilityMap, decode_cells

TRIES = 64


class PatchSampler:
    """Draws patch centres from one probability map: a tile by its mass, a cell in the tile, a pixel in the cell.

    Only the tiles' masses are summed up beforehand; the cells of a tile are decoded when a draw falls into it.
    """

    def __init__(self, probability_map: ProbabilityMap):
        self.map = probability_map
        log_mass = probability_map.log_mass
        self._tiles = _cumulative(np.exp(log_mass - log_mass.max()))  # (T,)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n patch centres in model pixels, (n, 2) int64 (x, y), independent of each other."""
        side = self.map.map_stride
        width, height = self.map.size_px
        uniform = rng.random((4, n))
        tiles = np.searchsorted(self._tiles, uniform[0], side="right")  # (n,)
        cells = self._cells(tiles, uniform[1])  # (n, 2) row, column
        corner = self.map.origins_px[tiles] + cells[:, ::-1].astype(np.int64) * side  # (n, 2) x, y
        extent = np.minimum(side, np.array([width, height]) - corner)
        return corner + (uniform[2:].T * extent).astype(np.int64)

    def draw_off_tissue(self, reach_px: int, rng: np.random.Generator) -> np.ndarray:
        """A centre that is no tissue, (2,) int64 (x, y): uniform over the slide and what lies this near outside of it.

        On tissue after all where `TRIES` draws found nothing else. Not in the paper.
        """
        size = np.array(self.map.size_px)
        centres = (rng.random((TRIES, 2)) * (size + 2 * reach_px)).astype(np.int64) - reach_px
        return next((center for center in centres if not self.map.is_tissue(*center)), centres[-1])

    def _cells(self, tiles: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        chosen = np.empty(len(tiles), np.int64)
        order = np.argsort(tiles, kind="stable")
        bounds = np.flatnonzero(np.diff(tiles[order])) + 1
        for group in np.split(order, bounds):
            if len(group):
                weights = decode_cells(self.map.codes[tiles[group[0]]])
                chosen[group] = np.searchsorted(_cumulative(weights.ravel()), uniform[group], side="right")
        return np.stack(np.unravel_index(chosen, self.map.codes.shape[1:]), axis=1)


def _cumulative(weights: np.ndarray) -> np.ndarray:
    total = np.cumsum(weights)
    total /= total[-1]
    # Rounding must not let a draw close to 1 fall behind the last entry that has any weight.
    total[np.flatnonzero(weights)[-1] :] = 1.0
    return total
