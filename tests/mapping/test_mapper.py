"""The mapping of single slides and the number of slides in a round."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests.inference.test_damage import corrupt
from tests.training.conftest import make_trainer
from wsi_hf import WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.mapping.first_maps import prepare
from wsi_hf.mapping.mapper import HandOver, Mapper, save_architecture, save_weights
from wsi_hf.sampling import unreadable
from wsi_hf.slides.handles import pool
from wsi_hf.slides.pyramid import write_pyramid
from wsi_hf.slides.slide import Slide


def mapper_of(folder, slides, depth=3, **changes) -> Mapper:
    """A mapper of an untrained network, with round 0 handed over to it."""
    trainer = make_trainer(folder, slides, **changes)
    settings, torch_seed = trainer.mapping_settings, torch.manual_seed(0)
    assert torch_seed
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=depth))
    save_architecture(model, trainer.image_processor, settings.folder)
    prepare(settings)
    save_weights(model, settings.store.weights_path(0), HandOver())
    return Mapper(settings, "cpu")


@pytest.mark.parametrize(("depth", "map_stride", "tile"), [(1, 8, 40), (2, 8, 128), (2, 3, 120), (3, 24, 192)])
def test_cells_never_straddle_tiles_whatever_stride_and_depth(tmp_path, slides, depth, map_stride, tile):
    many, one = (
        mapper_of(tmp_path / str(size), slides.select([0, 4]), depth, map_stride=map_stride, mapping_tile_size=size)
        for size in (tile, 24 * 16)
    )
    for mapper in (many, one):
        mapper.map_round(0)
    for tiled, whole in zip(*(m.store.read(0).entries for m in (many, one)), strict=True):
        assert tiled.round == whole.round == 0
        assert tiled.tiles > whole.tiles == 1
        assert tiled.sum_q == pytest.approx(whole.sum_q, rel=1e-5)
        assert tiled.largest_margin == pytest.approx(whole.largest_margin, abs=1e-4)
        first, second = many.store.load_map(tiled.file), one.store.load_map(whole.file)
        assert np.array_equal(first.tissue(), second.tissue())
        assert np.exp(first.log_mass).sum() == pytest.approx(np.exp(second.log_mass).sum(), rel=1e-5)


def test_the_number_of_slides_follows_from_the_rates(tmp_path, slides):
    mapper = mapper_of(tmp_path, slides, slides_per_round=0)
    mapper.map_round(0)
    index = mapper.store.read(0)
    assert sum(entry.round == 0 for entry in index.entries) == index.steps * 2 == 8  # all there are
    tiles = sum(entry.tiles for entry in index.entries) / len(index.entries)
    for pairs in (1, 2, 3):
        round_s = 2 * pairs * tiles / index.tiles_per_s
        save_weights(mapper.model, mapper.store.weights_path(1), HandOver(round_s))
        plan = mapper._plan(1, index, round_s)
        assert plan.steps - index.steps == pytest.approx(pairs, abs=1)
        assert len(plan.slides) == 2 * (plan.steps - index.steps)


def test_a_damaged_spot_costs_the_spot_and_not_the_slide(tmp_path, slides, monkeypatch, caplog):
    monkeypatch.setattr(unreadable, "RETRY_PAUSES_S", (0.01,))
    rows, maps = slides.select([0, 4]).to_list(), {}
    for name in ("sound", "damaged"):
        path, slide = tmp_path / f"{name}.tif", Slide(rows[1]["path"])
        pixels = slide.read_region_px((0, 0), slide.dimensions_l0, slide.mpp)
        write_pyramid(path, pixels, slide.mpp, tile=64, smallest=4096)
        rows[1] |= {"path": str(path)}
        mapper = mapper_of(tmp_path / name, Dataset.from_list(rows), 2)
        if name == "damaged":
            corrupt(path, slice(6, 7))
            pool().clear()
        mapper.map_round(0)
        entry = mapper.store.read(0).entries[1]
        maps[name] = mapper.store.load_map(entry.file)
        assert entry.round == 0
        assert not mapper.store.read(0).lost
    assert "spots cannot be read and count as benign" in caplog.text
    assert 0 < maps["damaged"].sum_q < maps["sound"].sum_q
    assert np.array_equal(maps["damaged"].tissue(), maps["sound"].tissue())
