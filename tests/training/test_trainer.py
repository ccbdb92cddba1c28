import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from wsi_hf import WsiTrainer, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.mapping.child import MappingChild
from wsi_hf.sampling.map_store import MappingError
from wsi_hf.slides.slide import SlideError

from .conftest import SETTINGS, assert_equal, make_trainer, weights
from .processes import processes_of


def test_the_loss_is_the_beta_divergence_of_the_patches(tmp_path, slides):
    from wsi_hf import beta_divergence, slide_logits

    trainer = make_trainer(tmp_path, slides)
    trainer.model.eval()
    batch = {
        "pixel_values": torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1]),
    }
    logits = trainer.model(trainer.image_processor.normalize_batch(batch["pixel_values"])).logits
    expected = beta_divergence(slide_logits(logits, 50.0), batch["labels"], (0.0, 1.0)).mean()
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_every_pixel_may_have_a_loss_of_its_own(tmp_path, slides):
    from wsi_hf import beta_divergence

    trainer = make_trainer(tmp_path, slides, pixel_loss=1.0)
    trainer.model.eval()
    labels = torch.tensor([0, 1, 0, 1])
    batch = {"pixel_values": torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8), "labels": labels}
    logits = trainer.model(trainer.image_processor.normalize_batch(batch["pixel_values"])).logits
    pixels = [
        beta_divergence(image.flatten(1).T, label.expand(1024)) for image, label in zip(logits, labels, strict=True)
    ]
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(torch.cat(pixels).mean().item(), rel=1e-5)


def test_accumulated_gradients_are_those_of_one_large_batch(tmp_path, slides):
    whole = make_trainer(tmp_path / "a", slides, max_steps=1, logging_steps=1, dynamic_sampling=False)
    parts = make_trainer(
        tmp_path / "b", slides, max_steps=1, logging_steps=1, dynamic_sampling=False,
        per_device_train_batch_size=2, gradient_accumulation_steps=2,
    )  # fmt: skip
    whole.train()
    parts.train()
    norms = [t.state.log_history[0]["grad_norm"] for t in (whole, parts)]
    assert norms[0] == pytest.approx(norms[1], rel=0.5)  # batch-norm sees other batches; four times too much would fail


def test_the_mapping_child_changes_nothing(tmp_path, slides, reference):
    trainer = make_trainer(tmp_path, slides, mapping="child")
    trainer.train()
    assert_equal(weights(trainer), reference)
    assert trainer.run.mapping.child.process.poll() is not None


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_data_workers_change_nothing_however_they_are_started(tmp_path, slides, reference, method):
    trainer = make_trainer(
        tmp_path, slides, dataloader_num_workers=2, dataloader_persistent_workers=True,
        dataloader_multiprocessing_context=method,
    )  # fmt: skip
    trainer.train()
    assert_equal(weights(trainer), reference)


def test_a_resumed_run_ends_where_the_whole_one_does(tmp_path, slides, reference):
    first = make_trainer(tmp_path, slides, save_strategy="steps", save_steps=3)
    first.train()
    shutil.rmtree(tmp_path / "_mapping")
    shutil.rmtree(tmp_path / "checkpoint-6")
    shutil.rmtree(tmp_path / "checkpoint-8")
    resumed = make_trainer(tmp_path, slides, save_strategy="steps", save_steps=3)
    resumed.train(resume_from_checkpoint=True)
    assert_equal(weights(resumed), reference)


class Overtake(TrainerCallback):
    """Holds the mapping child where the last round begins, so that the checkpoint is saved before the last maps."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 6:
            os.kill(self.trainer.run.mapping.child.process.pid, signal.SIGSTOP)

    def on_save(self, args, state, control, **kwargs):
        os.kill(self.trainer.run.mapping.child.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("mapping", ["inline", "child"])
def test_a_run_that_ended_before_its_last_maps_goes_on(tmp_path, slides, mapping):
    def go_on(name: str, mapping: str) -> dict[str, torch.Tensor]:
        resumed = make_trainer(tmp_path / name, slides, mapping=mapping, max_steps=12)
        resumed.train(resume_from_checkpoint=True)
        return weights(resumed)

    saving = {"save_strategy": "steps", "save_steps": 8}
    make_trainer(tmp_path / "in step", slides, **saving).train()
    behind, overtake = make_trainer(tmp_path / "behind", slides, mapping="child", **saving), Overtake()
    overtake.trainer = behind
    behind.callback_handler.callbacks.insert(0, overtake)
    behind.train()
    rounds = [
        sorted(path.stem for path in tmp_path.glob(f"{name}/checkpoint-8/mapping/rounds/*"))
        for name in ("in step", "behind")
    ]
    assert rounds == [["2", "3"], ["2"]]
    assert_equal(go_on("behind", mapping), go_on("in step", "inline"))


@pytest.mark.parametrize("mapping", ["inline", "child"])
def test_a_run_resumed_at_its_end_trains_no_further(tmp_path, slides, mapping):
    trained = make_trainer(tmp_path, slides, mapping=mapping, max_steps=7, save_strategy="steps", save_steps=7)
    trained.train()
    resumed = make_trainer(tmp_path, slides, mapping=mapping, max_steps=7)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 7
    assert_equal(weights(resumed), weights(trained))


def test_a_checkpoint_without_its_maps_is_half_written_and_passed_over(tmp_path, slides):
    make_trainer(tmp_path, slides, save_strategy="steps", save_steps=4).train()
    shutil.rmtree(tmp_path / "checkpoint-8" / "mapping")
    resumed = make_trainer(tmp_path, slides, save_strategy="steps", save_steps=4)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.resume_folder.name == "checkpoint-4"


def test_resuming_from_nothing_says_so(tmp_path, slides):
    with pytest.raises(ValueError, match="no complete checkpoint"):
        make_trainer(tmp_path, slides).train(resume_from_checkpoint=True)


def test_training_never_opens_an_annotation(tmp_path, tiny_cohort, reference):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_cohort, bare)
    shutil.rmtree(bare / "annotations")
    slides = load_cohort(bare).filter(lambda row: row["split"] == "train")
    assert slides["annotation"] == [None] * len(slides)
    trainer = make_trainer(tmp_path / "run", slides)
    trainer.train()
    assert_equal(weights(trainer), reference)


def test_another_seed_trains_another_model(tmp_path, slides, reference):
    trainer = make_trainer(tmp_path, slides, seed=1)
    trainer.train()
    assert not torch.equal(trainer.model.classifier.weight, reference["classifier.weight"])


def test_maps_are_one_round_old_and_drawn_from(tmp_path, slides):
    make_trainer(tmp_path, slides, shuffle_buffer=1).train()
    with open(tmp_path / "_mapping" / "draws.0.csv") as file:
        rows = [(int(step), int(map_round)) for step, *_, map_round, _ in csv.reader(file)]
    assert len(rows) == 8 * 4
    assert {(step // 2, map_round) for step, map_round in rows} == {(0, -1), (1, 0), (2, 1), (3, 2)}


def test_evaluation_is_slide_level_and_finds_the_best_checkpoint(tmp_path, slides):
    trainer = make_trainer(
        tmp_path, slides, eval_strategy="steps", eval_steps=4, save_strategy="steps", save_steps=4,
        load_best_model_at_end=True, metric_for_best_model="slide_auc",
    )  # fmt: skip
    trainer.train()
    evaluations = [entry for entry in trainer.state.log_history if "eval_slide_auc" in entry]
    assert len(evaluations) == 2
    assert all(0 <= entry["eval_slide_auc"] <= 1 and entry["eval_loss"] > 0 for entry in evaluations)
    assert trainer.state.best_metric == max(entry["eval_slide_auc"] for entry in evaluations)
    assert trainer.evaluate()["eval_slide_auc"] == trainer.state.best_metric


def test_other_slides_are_evaluated_anew(tmp_path, slides):
    trainer = make_trainer(tmp_path, slides, max_steps=1)
    trainer.train()
    two = slides.select([0, len(slides) - 1])
    whole, part, again = trainer.evaluate(), trainer.evaluate(two), trainer.evaluate()
    assert (whole, part["eval_slides"]) == (again, 2)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, slides):
    from wsi_hf.training.checkpoints.lock import FolderLock

    lock = FolderLock(tmp_path / "_mapping")
    with pytest.raises(RuntimeError, match="another run"):
        make_trainer(tmp_path, slides).train()
    lock.release()


def test_a_mapper_killed_once_is_started_again(tmp_path, slides, reference, monkeypatch):
    trainer = make_trainer(tmp_path, slides, mapping="child")
    launch, killed = MappingChild.launch, []

    def launch_and_kill_the_first(child):
        launch(child)
        if not killed:
            killed.append(child.process.pid)
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(MappingChild, "launch", launch_and_kill_the_first)
    trainer.train()
    assert_equal(weights(trainer), reference)
    assert killed


def test_a_mapper_that_dies_twice_stops_the_training_with_a_checkpoint(tmp_path, slides, monkeypatch):
    trainer = make_trainer(tmp_path, slides, mapping="child")
    launch = MappingChild.launch

    def launch_and_kill(child):
        launch(child)
        os.kill(child.process.pid, signal.SIGKILL)

    monkeypatch.setattr(MappingChild, "launch", launch_and_kill)
    with pytest.raises(MappingError, match="code -9, twice"):
        trainer.train()
    (state,) = tmp_path.glob("checkpoint-*/trainer_state.json")

    saved = state.stat().st_ino
    with pytest.raises(MappingError, match="code -9, twice"):  # at the same step: nothing to save
        trainer.train(resume_from_checkpoint=True)
    assert state.stat().st_ino == saved


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.training.conftest import make_trainer
from wsi_hf.cohorts.camelyon16 import load_cohort

if __name__ == "__main__":
    slides = load_cohort({cohort!r}).filter(lambda row: row["split"] == "train")
    trainer = make_trainer(Path({out!r}), slides, mapping="child", max_steps=100000, dataloader_num_workers=1)
    print("pid", flush=True)
    trainer.train()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(("how", "leaves_checkpoint"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_no_process_outlives_a_stopped_training(tmp_path, tiny_cohort, how, leaves_checkpoint):
    script = tmp_path / "script.py"
    root = str(Path(__file__).resolve().parents[2])
    script.write_text(textwrap.dedent(SCRIPT.format(tests=root, cohort=str(tiny_cohort), out=str(tmp_path / "run"))))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    rounds = tmp_path / "run" / "_mapping" / "rounds"
    deadline = time.monotonic() + 300
    while not (rounds / "1.json").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert (b"KeyboardInterrupt" in errors.encode()) == leaves_checkpoint
    assert bool(list((tmp_path / "run").glob("checkpoint-*/mapping"))) == leaves_checkpoint
    deadline = time.monotonic() + 120
    while processes_of(tmp_path / "run"):
        assert time.monotonic() < deadline, "an orphan is left"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta_1": 1.5}, "beta"),
        ({"beta_0": 1.0}, "beta"),
        ({"alpha": -1.0}, "alpha"),
        ({"draw_from": "old"}, "draw_from"),
        ({"mapping": "thread"}, "mapping"),
        ({"patch_size": 0}, "patch_size"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"ignore_data_skip": True}, "ignore_data_skip"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        WsiTrainingArguments(output_dir=str(tmp_path), **{**SETTINGS, **wrong})


def test_what_is_trained_is_told(tmp_path, slides):
    trainer = make_trainer(
        tmp_path, slides, beta_1=0.61, load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps"
    )
    assert trainer.model.config.beta_1 == 0.61
    assert trainer.args.metric_for_best_model == "slide_auc"  # a loss favours "all benign"
    assert trainer.args.greater_is_better
    with pytest.raises(ValueError, match="compute_metrics"):
        WsiTrainer(trainer.model, trainer.args, slides, compute_metrics=lambda p: {})
    for unsupported in (trainer.predict, trainer.hyperparameter_search):
        with pytest.raises(NotImplementedError):
            unsupported()


def test_all_bad_slides_are_named_before_the_training_begins(tmp_path, slides):
    good = Path(slides["path"][0]).read_bytes()
    (tmp_path / "truncated.tif").write_bytes(good[: len(good) // 3])
    (tmp_path / "text.tif").write_text("not a slide")
    rows = slides.to_list()
    for name, row in zip(("truncated", "text", "absent"), rows[:3], strict=True):
        row["slide_id"], row["path"] = name, str(tmp_path / f"{name}.tif")
    with pytest.raises(SlideError, match="3 of 8") as caught:
        make_trainer(tmp_path / "run", Dataset.from_list(rows)).train()
    for name in ("truncated", "text", "absent"):
        assert f"{name}.tif" in str(caught.value)


def test_a_data_set_without_labels_is_refused(tmp_path, slides):
    with pytest.raises(ValueError, match="label"):
        make_trainer(tmp_path, slides.remove_columns("label"))


def test_other_models_resume_is_refused(tmp_path, slides):
    make_trainer(tmp_path, slides, save_strategy="steps", save_steps=4).train()
    trainer = make_trainer(tmp_path, slides)
    trainer.model = WsiUNetForSegmentation(WsiUNetConfig(filters=8, depth=3))
    with pytest.raises(RuntimeError, match="size mismatch"):
        trainer.train(resume_from_checkpoint=True)
