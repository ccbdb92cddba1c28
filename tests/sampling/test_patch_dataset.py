from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_hf.sampling import unreadable
from wsi_hf.sampling.map_store import MappingError, MapStore, Round
from wsi_hf.sampling.patch_dataset import DynamicPatchDataset, RunSampler, TrainingSlide
from wsi_hf.sampling.probability_map import ProbabilityMap, ProbabilityMapBuilder, default_map
from wsi_hf.sampling.unreadable import UnreadableLog
from wsi_hf.slides.slide import Slide, SlideError


def peaked(slide_id: str, x: int, y: int) -> ProbabilityMap:
    """A map of 64 x 64 pixels whose mass lies in one."""
    margin = torch.full((64, 64), -30.0)
    margin[y, x] = 30.0
    builder = ProbabilityMapBuilder(slide_id, (64, 64), 1.0, None, 2.0, 1, 64, weights_step=0)
    builder.add(0, 0, margin)
    return builder.finish()


@pytest.fixture
def store(tmp_path: Path) -> MapStore:
    """Slides 0, 1 are benign, 2, 3 malignant; round 0 has mapped slides 0 and 2, round 1 slides 1 and 3."""
    store = MapStore(tmp_path)
    index = [store.save_map(default_map(str(s), (64, 64), 1.0, None, map_stride=1), -1) for s in range(4)]
    store.publish(-1, Round(index))
    for t, fresh in enumerate(((0, 2), (1, 3))):
        for s in fresh:
            index[s] = store.save_map(peaked(str(s), 10 + s, 20 + s), t)
        store.publish(t, Round(index))
    return store


def dataset(store: MapStore, **changes) -> DynamicPatchDataset:
    slides = [TrainingSlide(str(s), f"{s}.tif", int(s > 1)) for s in range(4)]
    settings = {"length": 400, "patch_size": 8, "mpp": 1.0, "items_per_round": 40, "shuffle_buffer": 1, "seed": 0}
    return DynamicPatchDataset(slides, store, **{**settings, **changes})


def test_classes_alternate(store):
    data = dataset(store)
    assert [data.slides[data.draw(i).slide].label for i in range(8)] == [0, 1] * 4


def test_round_zero_draws_uniformly_from_all_slides(store):
    draws = [dataset(store).draw(i) for i in range(40)]
    assert {draw.slide for draw in draws} == {0, 1, 2, 3}
    assert len({draw.center_px for draw in draws}) > 30


def test_a_round_draws_from_the_maps_that_the_round_before_finished(store):
    data = dataset(store)
    assert {(d.slide, d.center_px) for d in map(data.draw, range(40, 80))} == {(0, (10, 20)), (2, (12, 22))}
    assert {(d.slide, d.center_px) for d in map(data.draw, range(80, 120))} == {(1, (11, 21)), (3, (13, 23))}


def test_draw_from_all_takes_every_slides_latest_map(store):
    draws = [dataset(store, draw_from="all").draw(i) for i in range(80, 120)]
    assert {(d.slide, d.center_px) for d in draws} == {(s, (10 + s, 20 + s)) for s in range(4)}


def test_benign_slides_are_drawn_by_error_mass_or_alike(store):
    index = store.read(1)
    heavy = [replace(entry, sum_q=1e6 if s == 0 else 1.0) for s, entry in enumerate(index.entries)]
    store.publish(1, Round(heavy))
    for error_mass, slides in ((True, {0}), (False, {0, 1})):
        data = dataset(store, draw_from="all", error_mass=error_mass)
        assert {data.draw(i).slide for i in range(80, 120, 2)} == slides


def test_benign_slides_without_any_error_mass_are_drawn_alike(store):
    store.publish(1, Round([replace(entry, sum_q=0.0) for entry in store.read(1).entries]))
    data = dataset(store, draw_from="all")
    assert {data.draw(i).slide for i in range(80, 120, 2)} == {0, 1}


def test_another_runs_maps_of_the_same_name_are_read_anew(store):
    data = dataset(store, draw_from="all")
    before = {data.draw(i).map_round for i in range(80, 120)}
    store.publish(1, Round([replace(entry, round=7) for entry in store.read(1).entries]))
    assert {data.draw(i).map_round for i in range(80, 120)} == before
    data.forget_maps()
    assert {data.draw(i).map_round for i in range(80, 120)} == {7}


def test_a_round_that_is_not_kept_any_more_is_not_waited_for(store):
    store.index_path(0).unlink()
    with pytest.raises(ValueError, match="round 0 are not kept"):
        store.wait(0)


def test_without_dynamic_sampling_all_is_round_zero(store):
    draws = [dataset(store, dynamic=False).draw(i) for i in range(80, 120)]
    assert {draw.map_round for draw in draws} == {-1}


def test_the_shuffle_buffer_mixes_draws_and_loses_none(store):
    plain = [dataset(store).draw(i) for i in range(0, 80, 2)]
    mixed = [dataset(store, shuffle_buffer=20).draw(i) for i in range(0, 80, 2)]
    assert mixed != plain
    assert sorted(mixed[:20], key=str) == sorted(plain[:20], key=str)


def test_a_buffer_deeper_than_a_round_uses_the_maps_of_when_it_was_filled(store):
    data = dataset(store, shuffle_buffer=30)  # a class has 20 draws a round: filled at 0 (round 0) and at 30 (round 1)
    assert {data.draw(2 * place).map_round for place in range(30)} == {-1}
    assert {data.draw(2 * place).map_round for place in range(30, 60)} == {0}


def test_an_item_is_a_function_of_its_index(store):
    assert [dataset(store).draw(i) for i in (50, 3)] == [dataset(store).draw(i) for i in (50, 3)]
    assert dataset(store, seed=1).draw(3) != dataset(store).draw(3)


def test_a_lost_slide_is_drawn_from_no_more(store):
    store.publish(1, Round(store.read(1).entries, lost={3: "its disk is gone"}))
    for draw_from in ("fresh", "all"):
        draws = [dataset(store, draw_from=draw_from).draw(i) for i in range(80, 120)]
        assert 3 not in {draw.slide for draw in draws}
        assert 2 in {draw.slide for draw in draws}  # the newest malignant map that is left


def test_a_slide_that_cannot_be_read_is_drawn_again_and_named(tmp_path, synthetic_slide, monkeypatch):
    monkeypatch.setattr(unreadable, "RETRY_PAUSES_S", ())
    size, store = Slide(synthetic_slide).size_px(1.0), MapStore(tmp_path)
    store.publish(-1, Round([store.save_map(default_map(str(s), size, 1.0, None), -1) for s in range(4)]))
    paths = [str(synthetic_slide), str(tmp_path / "gone.tif")] * 2
    data = dataset(store)
    data.slides = [TrainingSlide(str(s), path, int(s > 1)) for s, path in enumerate(paths)]
    items = [data[i] for i in range(40)]
    assert {item["slide"] for item in items} == {0, 2}
    lines = UnreadableLog(tmp_path).lines()
    assert {line["slide"] for line in lines} == {1, 3}
    assert {line["item"] for line in lines} == {i for i in range(40) if data.draw(i).slide in (1, 3)}
    assert UnreadableLog(tmp_path).before(1) == {}  # one round may be a bad moment of the disk
    UnreadableLog(tmp_path).add(1, 3, "again")
    assert list(UnreadableLog(tmp_path).before(2)) == list(UnreadableLog(tmp_path).before(1, mapped=True)) == [3]
    data.slides = [replace(slide, path=paths[1]) for slide in data.slides]
    with pytest.raises(SlideError, match=r"gone\.tif"):
        data[0]


def test_a_failed_mapping_reaches_the_reader(store):
    (store.folder / "failed.txt").write_text("the traceback")
    with pytest.raises(MappingError, match="the traceback"):
        dataset(store).draw(130)


def test_what_nobody_can_ask_for_any_more_is_forgotten(store):
    index = store.read(1).entries
    for t in range(2, 9):
        index[2] = store.save_map(peaked("2", 1, 1), t)
        store.publish(t, Round(index))
        store.weights_path(t).touch()
    store.forget_before(6)
    assert store.finished() == [-1, 6, 7, 8]
    assert [path.name for path in store.live_files() if path.parent.name == "weights"] == []
    assert [path.name for path in (store.folder / "weights").iterdir()] == ["8.safetensors"]
    assert not store.index_path(1).exists()
    assert store.index_path(-1).exists()
    names = {path.name for path in (store.folder / "maps").iterdir()}
    assert "2.0.safetensors" not in names
    assert {entry.file for entry in index} | {f"{s}.-1.safetensors" for s in range(4)} <= names


def test_an_odd_round_cannot_be_half_benign(store):
    with pytest.raises(ValueError, match="even batch"):
        dataset(store, items_per_round=41)


def test_patches_are_read_where_they_were_drawn(tmp_path, synthetic_slide):
    slide, store = Slide(synthetic_slide), MapStore(tmp_path)
    store.publish(-1, Round([store.save_map(default_map(name, slide.size_px(1.0), 1.0, None), -1) for name in "ab"]))
    slides = [TrainingSlide(name, str(synthetic_slide), label) for label, name in enumerate("ab")]
    data = dataset(store)
    data.slides, data.labels = slides, np.array([0, 1])
    item = data[5]
    x, y = data.draw(5).center_px
    assert item["labels"] == 1
    assert np.array_equal(item["pixel_values"], slide.read_region_px((x - 4, y - 4), (8, 8), 1.0))


def test_a_share_of_benign_patches_is_centred_off_the_tissue_and_the_others_stay_where_they_are(store):
    first_round = {"items_per_round": 400}  # all of these slides is tissue
    usual, with_glass = dataset(store, **first_round), dataset(store, **first_round, glass_share=0.5)
    off = [not all(0 <= c < 64 for c in with_glass.draw(i).center_px) for i in range(0, 400, 2)]
    assert 0.3 < np.mean(off) < 0.7
    assert [with_glass.draw(i) for i in range(0, 400, 2)] == [with_glass.draw(i) for i in range(0, 400, 2)]
    assert [with_glass.draw(i) for i in range(1, 400, 2)] == [usual.draw(i) for i in range(1, 400, 2)]


def test_indices_end_with_the_run():
    sampler = RunSampler(10, 15)
    assert list(sampler) == [*range(10)]
    sampler.set_epoch(1)
    assert list(sampler) == [*range(10, 15)]
