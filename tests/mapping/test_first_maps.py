"""The first maps: uniform over the tissue, or raised where tissue is of a kind that malignant slides hold more of."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from tests.training.conftest import assert_equal, make_trainer, weights
from wsi_hf.mapping.discovery.windows import centres
from wsi_hf.mapping.first_maps import _raise, prepare
from wsi_hf.slides.pyramid import write_pyramid

SIDE, BLOB = 256, slice(96, 160)


@pytest.fixture(scope="session")
def blobs(tmp_path_factory) -> Dataset:
    """20 benign and 20 malignant slides of stained noise; the malignant ones hold a darker spot of 64 pixels."""
    folder, rng = tmp_path_factory.mktemp("blobs"), np.random.default_rng(0)
    rows = []
    for number in range(40):
        light = rng.integers(-20, 20, (SIDE, SIDE, 1)) + rng.integers(-20, 20, (8, 8, 1)).repeat(32, 0).repeat(32, 1)
        if number % 2:
            light[BLOB, BLOB] -= 70
        image = (np.array([190, 120, 180]) + light).clip(0, 255).astype(np.uint8)
        path = write_pyramid(folder / f"s{number:02d}.tif", image, mpp=1.0)
        rows.append({"slide_id": path.stem, "path": str(path), "label": number % 2})
    return Dataset.from_list(rows)


def maps_of(folder: Path, slides: Dataset, **changes):
    settings = make_trainer(folder, slides, alpha=8.0, **changes).mapping_settings
    prepare(settings)
    return settings, [settings.store.load_map(entry.file) for entry in settings.store.read(-1).entries]


def mass(probability_map) -> np.ndarray:
    """Q^alpha of each cell of 8 pixels."""
    cells = np.zeros((SIDE // 8, SIDE // 8))
    side = probability_map.tile_size // 8
    for (x, y), log_mass, codes in zip(
        probability_map.origins_px, probability_map.log_mass, probability_map.codes, strict=True
    ):
        part = np.where(codes > 0, np.exp((codes - 65535.0) * (32 / 65534)), 0)
        cells[y // 8 : y // 8 + side, x // 8 : x // 8 + side] = part / part.sum() * np.exp(log_mass)
    return cells


@pytest.mark.parametrize("discovery", ["kinds", "discriminant"])
def test_patches_go_where_malignant_slides_differ(tmp_path, blobs, caplog, discovery):
    caplog.set_level(logging.INFO)
    settings, maps = maps_of(tmp_path, blobs, discovery_steps=4, discovery=discovery)
    shares = []
    for probability_map, slide in zip(maps, settings.slides, strict=True):
        cells = mass(probability_map)
        shares.append(cells[12:20, 12:20].sum() / cells.sum())
        assert probability_map.tissue().all()
        assert probability_map.slide_id == slide.slide_id
    area = (8 / 32) ** 2
    assert np.mean(shares[1::2]) > 2 * area
    assert np.mean(shares[::2]) < area + 0.01  # a window in a hundred of benign slides may pass for found
    facts = json.loads((Path(settings.folder) / "discovery.json").read_text())
    assert facts["share_of_malignant_tissue"] > 10 * facts["share_of_benign_tissue"]
    assert "commoner in the malignant slides" in caplog.text
    assert Image.open(tmp_path / "discovery.png").width > 1000
    assert not list(Path(settings.folder).glob("tmp*"))


def test_what_chooses_slides_stays_as_it_was(tmp_path, blobs):
    _, raised = maps_of(tmp_path / "raised", blobs, discovery_steps=4)
    _, uniform = maps_of(tmp_path / "uniform", blobs)
    assert [m.sum_q for m in raised] == [m.sum_q for m in uniform]
    assert any((mass(a) != mass(b)).any() for a, b in zip(raised, uniform, strict=True))


def test_uniform_sampling_stays_uniform(tmp_path, blobs):
    settings, _ = maps_of(tmp_path, blobs.select(range(4)), discovery_steps=4, dynamic_sampling=False)
    assert settings.discovery_rounds == 0


def test_slides_of_any_size_keep_their_tissue(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(32):
        image = rng.integers(120, 200, (149 + number, 203, 3), dtype=np.uint8)
        image[..., 1] //= 2
        path = write_pyramid(tmp_path / f"s{number:02d}.tif", image, mpp=1.0)
        rows.append({"slide_id": path.stem, "path": str(path), "label": number % 2})
    slides = Dataset.from_list(rows)
    settings = make_trainer(tmp_path / "run", slides, discovery_steps=4, tissue="none").mapping_settings
    prepare(settings)
    for entry in settings.store.read(-1).entries:
        probability_map = settings.store.load_map(entry.file)
        assert probability_map.tissue().all()
        cells, elsewhere = probability_map.size_px[0] * probability_map.size_px[1], 0.2
        _raise(settings, entry, np.full(centres(settings, probability_map).shape[0], 0.9), elsewhere)
        again = settings.store.load_map(entry.file)
        assert again.tissue().all()
        assert again.sum_q == pytest.approx(cells / 2)


def test_where_slides_do_not_differ_the_first_maps_stay_uniform(tmp_path, blobs, caplog):
    labels = np.random.default_rng(0).permutation(blobs["label"]).tolist()
    _, maps = maps_of(tmp_path, blobs.remove_columns("label").add_column("label", labels), discovery_steps=4)
    for probability_map in maps:
        cells = mass(probability_map)
        assert cells.max() == pytest.approx(cells.min(), rel=1e-3)
    assert "no kind of tissue" in caplog.text


def test_malignant_slides_keep_their_first_maps_for_the_steps_asked_for_and_runs_repeat(tmp_path, blobs):
    trainers = [make_trainer(tmp_path / name, blobs, discovery_steps=4, max_steps=8) for name in ("a", "b")]
    for trainer in trainers:
        trainer.train()
    settings = trainers[0].mapping_settings
    rounds = {0: set(), 1: set()}
    for slide, entry in zip(settings.slides, settings.store.newest().entries, strict=True):
        rounds[slide.label].add(entry.round)
    assert {0, 1} < rounds[0]  # what looks malignant on benign slides is wrong for sure
    assert rounds[1] == {-1, 2, 3}
    assert_equal(*(weights(trainer) for trainer in trainers))


def test_a_run_resumed_while_the_first_maps_hold_ends_as_if_it_had_not_stopped(tmp_path, blobs):
    changes = {"discovery_steps": 4, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 10}
    whole = make_trainer(tmp_path, blobs, **changes)
    whole.train()
    shutil.rmtree(whole.mapping_settings.folder)  # found again from the slides
    resumed = make_trainer(tmp_path, blobs, **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == 8
    assert_equal(weights(whole), weights(resumed))
