"""Ways to go on wrongly: each is refused, with its reason, or comes out right."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSemanticSegmentation, SegformerConfig

from wsi_hf import WsiImageProcessor, WsiTrainer, WsiTrainingArguments
from wsi_hf.training.checkpoints.resuming import begin_anew, newest_checkpoint

from .conftest import SETTINGS, assert_equal, make_trainer, weights

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, slides: Dataset) -> Path:
    """A finished run with checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("resuming") / "run"
    make_trainer(folder, slides, **SAVING).train()
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def others(slides: Dataset) -> dict[str, tuple[Dataset, dict]]:
    """What must be refused: the slides, the arguments that differ."""
    rows = slides.to_list()
    relabelled = [{**row, "label": 1 - row["label"]} for row in rows]
    return {
        "the order of the training slides": (Dataset.from_list(rows[::-1]), {}),
        "1 gone": (Dataset.from_list(rows[:-1]), {}),
        "1 of them were validation slides": (Dataset.from_list([*rows[1:], {**rows[0], "slide_id": "held_out"}]), {}),
        "label or mpp of": (Dataset.from_list(relabelled), {}),
        "seed 0, now 1": (slides, {"seed": 1}),
        "alpha 2.0, now 4.0": (slides, {"alpha": 4.0}),
        "map_stride 8, now 4": (slides, {"map_stride": 4}),
        "shuffle_buffer 3, now 9": (slides, {"shuffle_buffer": 9}),
        "steps_per_round 2, now 1": (slides, {"steps_per_round": 1}),
        "patches a step 4, now 8": (slides, {"gradient_accumulation_steps": 2}),
        "beta_1 1.0, now 0.61": (slides, {"beta_1": 0.61}),
    }


def test_what_would_compute_something_else_is_refused_by_name(copy, slides):
    path = copy / "checkpoint-4" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["facts"]["validation"] = ["held_out"]
    path.write_text(json.dumps(manifest))
    for message, (rows, changes) in others(slides).items():
        with pytest.raises(ValueError, match=message):
            make_trainer(copy, rows, **SAVING | {"max_steps": 6} | changes).train(resume_from_checkpoint=True)


def test_a_folder_with_a_run_is_not_trained_over(copy, slides):
    with pytest.raises(ValueError, match=r"checkpoint-4.*--resume_from_checkpoint True.*--overwrite_output_dir"):
        make_trainer(copy, slides, **SAVING).train()
    begin_anew(copy, overwrite=True)
    assert not list(copy.glob("checkpoint-*"))


def test_a_run_that_died_in_its_first_checkpoint_is_begun_anew(copy, slides):
    for path in [*copy.glob("model*.safetensors"), copy / "checkpoint-4" / "manifest.json"]:
        path.unlink()
    with pytest.raises(ValueError, match=r"earlier run \(checkpoint-2\)"):
        begin_anew(copy, overwrite=False)
    (copy / "checkpoint-2" / "manifest.json").write_text("{")
    begin_anew(copy, overwrite=False)
    assert not list(copy.glob("checkpoint-*"))
    (copy / "checkpoint-2").mkdir()  # another trainer's: it knows no maps and no manifest
    with pytest.raises(ValueError, match="earlier run"):
        begin_anew(copy, overwrite=False)


def test_a_checkpoint_of_another_run_is_not_taken_for_ones_own(copy, run):
    begin_anew(copy, overwrite=True)
    shutil.copytree(run / "checkpoint-4", copy / "checkpoint-4")  # as if the new run had died before its first
    with pytest.raises(ValueError, match="no complete checkpoint"):
        newest_checkpoint(copy)


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "model.safetensors", "trainer_state.json", "mapping/rounds/1.json"]
)
def test_a_damaged_checkpoint_is_told_by_file_and_the_one_before_is_taken(copy, caplog, name):
    path = copy / "checkpoint-4" / name
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    for spoil in (lambda: path.write_bytes(flipped), lambda: path.write_bytes(flipped[:-9]), path.unlink):
        spoil()
        assert newest_checkpoint(copy) == copy / "checkpoint-2"
        assert f"{name} " in caplog.text
        caplog.clear()


def test_a_foreign_network_comes_back_whole(tmp_path, slides):
    def trainer(**changes):
        torch.manual_seed(0)
        config = SegformerConfig(
            id2label={0: "benign", 1: "malignant"}, label2id={"benign": 0, "malignant": 1}, depths=[1] * 4,
            hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1] * 4, decoder_hidden_size=16,
        )  # fmt: skip
        model = AutoModelForSemanticSegmentation.from_config(config)
        args = WsiTrainingArguments(output_dir=str(tmp_path), **SETTINGS | SAVING | {"max_steps": 2} | changes)
        return WsiTrainer(model, args, slides, processing_class=WsiImageProcessor())

    trained, resumed = trainer(), trainer()
    trained.train()
    resumed.train(resume_from_checkpoint=True)  # at its end: nothing but loading
    assert_equal(weights(resumed), weights(trained))
    trained.model.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in weights(trained).items()})
    trained.state.best_model_checkpoint = str(tmp_path / "checkpoint-2")
    trained._load_best_model()
    assert_equal(weights(trained), weights(resumed))


def test_without_hard_links_and_locks_maps_are_copied_and_a_warning_given(
    tmp_path, slides, reference, monkeypatch, caplog
):
    def refuse(*args, **kwargs):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    make_trainer(tmp_path, slides, save_strategy="steps", save_steps=3).train()
    assert "cannot be locked" in caplog.text
    for step in (6, 8):
        shutil.rmtree(tmp_path / f"checkpoint-{step}")
    resumed = make_trainer(tmp_path, slides)
    resumed.train(resume_from_checkpoint=True)
    assert_equal(weights(resumed), reference)
