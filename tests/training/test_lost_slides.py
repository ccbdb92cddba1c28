"""Slides that fail in the middle of a training: tried again, set aside, counted; too many of them stop it."""

import json
import shutil
import threading
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import TrainerCallback

from wsi_hf.sampling import unreadable
from wsi_hf.sampling.unreadable import retried
from wsi_hf.slides.handles import pool
from wsi_hf.slides.slide import Slide, SlideError
from wsi_hf.training.lost_slides import LostSlidesError

from .conftest import assert_equal, make_trainer, weights


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(unreadable, "RETRY_PAUSES_S", (0.01, 0.02))


@pytest.fixture
def rows(tmp_path: Path, slides: Dataset) -> list[dict]:
    """The training slides; tumor_001 is a copy of its own, to be damaged."""
    rows = slides.to_list()
    for row in rows:
        if row["slide_id"] == "tumor_001":
            row["path"] = shutil.copy(row["path"], f"{tmp_path}/tumor_001.tif")
    return rows


def damage(path: Path) -> bytes:
    """Cut a slide off, as a broken copy is; its bytes as they were."""
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 3])
    pool().clear()
    return good


class Damage(TrainerCallback):
    """Damages a slide once the tissue of all is found."""

    def __init__(self, path: Path):
        self.path = path

    def on_epoch_begin(self, args, state, control, **kwargs):
        if not state.global_step:
            damage(self.path)


def trainer_of(folder: Path, rows: list[dict], **changes):
    """A trainer on whose slide tumor_001 something happens mid-run."""
    saving = {"save_strategy": "steps", "save_steps": 3, "max_steps": 12}
    trainer = make_trainer(folder, Dataset.from_list(rows), **saving | changes)
    trainer.add_callback(Damage(Path(next(row["path"] for row in rows if row["slide_id"] == "tumor_001"))))
    return trainer


def test_a_lost_slide_is_set_aside_and_reported_and_the_rest_goes_on(tmp_path, rows):
    trainer = trainer_of(tmp_path / "run", rows, max_lost_slides=0.25)
    trainer.train()
    (row,) = json.loads((tmp_path / "run" / "lost_slides.json").read_text())
    assert row["slide_id"] == "tumor_001"
    assert "tumor_001.tif" in row["reason"]
    assert trainer.state.log_history[-2]["lost_slides"] == 1
    trainer.save_model()
    assert json.loads((tmp_path / "run" / "training_summary.json").read_text())["lost_slides"] == 1
    assert "tumor_001" not in (tmp_path / "run" / "_mapping" / "draws.0.csv").read_text()
    index = trainer.mapping_settings.store.newest()
    assert [trainer.mapping_settings.slides[slide].slide_id for slide in index.lost] == ["tumor_001"]


def test_a_run_that_loses_a_slide_is_the_same_with_workers_and_when_resumed(tmp_path, rows):
    good = (tmp_path / "tumor_001.tif").read_bytes()
    runs = []
    for name, workers in (("whole", 0), ("workers", 2)):
        (tmp_path / "tumor_001.tif").write_bytes(good)
        runs.append(trainer_of(tmp_path / name, rows, max_lost_slides=0.25, dataloader_num_workers=workers))
        runs[-1].train()
    whole, workers = runs
    assert_equal(weights(workers), weights(whole))
    for step in (9, 12):
        shutil.rmtree(tmp_path / "workers" / f"checkpoint-{step}")
    resumed = trainer_of(tmp_path / "workers", rows, max_lost_slides=0.25)
    resumed.train(resume_from_checkpoint=True)
    assert_equal(weights(resumed), weights(whole))
    assert len(resumed.run.lost_slides.reasons) == 1


def test_too_many_lost_slides_stop_the_training_until_they_are_repaired(tmp_path, rows):
    good = (tmp_path / "tumor_001.tif").read_bytes()
    trainer = trainer_of(tmp_path / "run", rows)
    with pytest.raises(LostSlidesError, match=r"1 of 8 training slides.*max_lost_slides = 0.05(.|\n)*tumor_001"):
        trainer.train()
    (tmp_path / "tumor_001.tif").write_bytes(good)
    resumed = trainer_of(tmp_path / "run", rows)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 12
    assert not resumed.mapping_settings.store.newest().lost
    assert not (tmp_path / "run" / "lost_slides.json").exists()


def test_an_unreadable_validation_slide_does_not_end_the_training(tmp_path, rows, caplog):
    trainer = trainer_of(tmp_path / "run", rows, max_steps=1)
    damage(tmp_path / "tumor_001.tif")
    metrics = trainer.evaluate()
    assert metrics["eval_slides"] == 7
    assert "tumor_001" in caplog.text


def test_a_slide_that_comes_back_in_time_is_not_lost(tmp_path, synthetic_slide, monkeypatch):
    monkeypatch.setattr(unreadable, "RETRY_PAUSES_S", (0.1, 5.0))
    path = tmp_path / "late.tif"
    threading.Timer(0.5, shutil.copy, (synthetic_slide, path)).start()
    assert retried(lambda: Slide(path).slide_id, "late") == "late"
    with pytest.raises(SlideError, match="absent"):
        retried(lambda: Slide(tmp_path / "absent.tif"), "absent", patient=False)


def test_a_share_beyond_one_is_refused(tmp_path, slides):
    with pytest.raises(ValueError, match="max_lost_slides"):
        make_trainer(tmp_path, slides, max_lost_slides=5)
