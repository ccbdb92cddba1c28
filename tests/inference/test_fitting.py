"""Tiles fitted to the tissue hold all of it, none of it twice, and little else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_hf.inference.fitting import fit
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.streaming import stream_tiles, whole_tiles
from wsi_hf.inference.tiling import TileGrid

from .conftest import noise_slide, tiny_model  # noqa: F401


def area(height, width, each=0.5):
    return height * width + each


def test_an_l_is_cut_in_two_where_that_pays():
    blocks = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 1]], bool)
    assert fit(blocks, area) == [(0, 2, 0, 1), (2, 3, 0, 3)]
    assert fit(blocks, lambda h, w: area(h, w, each=9)) == [(0, 3, 0, 3)]
    assert fit(np.zeros((2, 2), bool), area) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 10**6))
def test_every_occupied_block_lies_in_exactly_one_box(rows, columns, share, seed):
    blocks = np.random.default_rng(seed).random((rows, columns)) < share
    count = np.zeros(blocks.shape, int)
    for top, bottom, left, right in fit(blocks, area):
        count[top:bottom, left:right] += 1
        edges = (blocks[top, left:right], blocks[bottom - 1, left:right])
        assert all(edge.any() for edge in edges)
    assert (count[blocks] == 1).all()
    assert count.max(initial=0) <= 1


@pytest.mark.parametrize("mask_shape", [(7, 11), (45, 60), (90, 120)])
def test_fitted_tiles_find_the_tissue_of_masks_of_any_resolution(mask_shape):
    grid = TileGrid.cover((480, 360), 128, 16)
    tissue = np.random.default_rng(0).random(mask_shape) < 0.05
    seen = np.zeros((360, 480), int)
    for part in grid.fitted(tissue, 16, lambda h, w: area(h, w, each=16**2)):
        assert part.x_px % 16 == part.y_px % 16 == 0
        seen[part.rows, part.columns] += 1
    whole = np.zeros((360, 480), bool)
    for tile in grid.tiles():
        whole[tile.rows, tile.columns] = grid.tissue_of(tile, tissue)
    assert (seen[whole] == 1).all()
    assert seen.max() == 1
    assert {tile.index for tile in grid.tiles(tissue)} == {
        t.index for t in grid.tiles() if whole[t.rows, t.columns].any()
    }


@pytest.mark.parametrize("batch_size", [1, 3])
def test_parts_have_the_logits_of_whole_tiles(noise_slide, batch_size):  # noqa: F811
    slide, network = noise_slide(300, 200), PixelNetwork(tiny_model(2))
    tissue = np.zeros((20, 30), bool)
    tissue[2:5, 1:4] = tissue[12:19, 20:29] = tissue[3, 3:22] = True
    expected = {(t.x_px, t.y_px): t.logits for t in stream_tiles(network, slide, tissue=None, tile_size=128)}
    parts = list(stream_tiles(network, slide, tissue=tissue, tile_size=128, batch_size=batch_size))
    computed = sum(part.tissue.numel() for part in parts)
    assert tissue.sum() * 100 == sum(int(part.tissue.sum()) for part in parts)
    assert computed < 0.8 * 300 * 200
    for whole in whole_tiles(iter(parts), TileGrid.cover((300, 200), 128, network.alignment)):
        reference = expected[whole.x_px, whole.y_px]
        assert whole.logits.shape == reference.shape
        assert torch.where(whole.tissue, whole.logits - reference, 0).abs().max() <= 1e-4
