"""The overlay shows map and outlines where they are, whether the picture is finer than the map or coarser."""

import numpy as np
import pytest

from wsi_hf.inference.tiling import TileGrid
from wsi_hf.segmentation.overlay import map_at, outline


@pytest.mark.parametrize("size", [(75, 50), (150, 100), (300, 200), (301, 333), (450, 300), (1333, 999)])
def test_a_square_keeps_its_place_and_its_outline_at_every_size(size):
    p = np.zeros((200, 300), np.float32)
    p[60:120, 90:180] = 0.9
    tiles = TileGrid.cover((300, 200), 64, 16).tiles()
    heat = map_at(p, tiles, size[::-1])
    rows, columns = np.flatnonzero((heat > 0.5).any(1)), np.flatnonzero((heat > 0.5).any(0))
    scale = np.array([size[1] / 200, size[0] / 300])
    corner, opposite = np.array([rows[0], columns[0]]), np.array([rows[-1], columns[-1]]) + 1
    assert np.abs(corner - scale * (60, 90)).max() <= 1
    assert np.abs(opposite - scale * (120, 180)).max() <= 1
    line = outline(heat > 0.5, width=1)
    assert line.sum() == 2 * (len(rows) + len(columns)) - 4  # one closed line, no lattice


def test_a_single_pixel_stays_visible_in_a_small_picture():
    p = np.zeros((200, 300), np.float32)
    p[77, 33] = 1
    assert map_at(p, TileGrid.cover((300, 200), 64, 16).tiles(), (20, 30)).max() == 1
