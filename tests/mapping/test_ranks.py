"""Several CPU ranks: they share out patches and maps, and end with the same weights."""

import csv
import json
from pathlib import Path

import pytest
import torch

from tests.training.conftest import SETTINGS, assert_equal, make_trainer, weights
from tests.training.processes import run_ranks
from wsi_hf import WsiTrainingArguments
from wsi_hf.cohorts.camelyon16 import load_cohort


def train(out: Path, cohort: Path, changes: dict) -> None:
    """What each rank runs."""
    slides = load_cohort(cohort).filter(lambda row: row["split"] == "train")
    trainer = make_trainer(out, slides, ddp_backend="gloo", save_strategy="steps", save_steps=2, **changes)
    trainer.train()
    metrics = trainer.evaluate()
    torch.save((weights(trainer), metrics), out / f"rank{trainer.args.process_index}.pt")


def launch(folder: Path, cohort: Path, ranks: int, **changes) -> Path:
    folder.mkdir()
    run_ranks(ranks, train, folder, cohort, {"max_steps": 4, **changes})
    return folder


def result(folder: Path, rank: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """(weights, metrics) that a training rank ended with."""
    return torch.load(folder / f"rank{rank}.pt")


def draws(folder: Path, rank: int) -> list[tuple[str, ...]]:
    """(step, slide, label, x, y, map round) of what a rank read."""
    with open(folder / "_mapping" / f"draws.{rank}.csv") as file:
        return [tuple(row[:6]) for row in csv.reader(file)]


@pytest.fixture(scope="module")
def two_inline(tmp_path_factory, tiny_cohort: Path) -> Path:
    """Two ranks that train and map."""
    return launch(tmp_path_factory.mktemp("ranks") / "inline", tiny_cohort, 2, per_device_train_batch_size=2)


def test_two_ranks_share_out_the_patches_and_agree(two_inline):
    first, second = draws(two_inline, 0), draws(two_inline, 1)
    assert len(first) == len(second) == 4 * 2
    assert {row[2] for row in first} == {"0", "1"}  # each rank reads both classes
    assert not {row[1:5] for row in first} & {row[1:5] for row in second}
    (weights_0, metrics_0), (weights_1, metrics_1) = (result(two_inline, rank) for rank in (0, 1))
    assert metrics_0 == metrics_1
    for name, tensor in weights_0.items():
        if "running" not in name:  # each rank keeps the batch statistics of its own patches
            assert torch.equal(tensor, weights_1[name]), name
    assert len(list(two_inline.glob("checkpoint-*/mapping"))) == 2


def test_two_ranks_read_in_the_first_round_what_one_rank_reads(tmp_path, slides, two_inline):
    make_trainer(tmp_path / "one", slides, max_steps=2, seed=0).train()
    one = [row for row in draws(tmp_path / "one", 0) if int(row[0]) < 2]  # later maps come from other batch statistics
    two = [row for rank in (0, 1) for row in draws(two_inline, rank) if int(row[0]) < 2]
    assert sorted(one) == sorted(two)


@pytest.mark.parametrize(("processes", "mapping"), [(2, "child"), (3, "ranks")])
def test_two_ranks_end_with_the_same_weights_wherever_the_maps_are_made(
    tmp_path, tiny_cohort, two_inline, processes, mapping
):
    other = launch(tmp_path / "run", tiny_cohort, processes, per_device_train_batch_size=2, mapping=mapping)
    for rank in (0, 1):
        assert_equal(result(other, rank)[0], result(two_inline, rank)[0])
        assert draws(other, rank) == draws(two_inline, rank)
    assert not (other / "rank2.pt").exists()  # the mapping rank has left the script
    assert not list((other / "_mapping").glob("*.lease"))
    assert not list((other / "_mapping" / "mappers").glob("*"))


def test_one_rank_trains_and_two_map_each_slide_once_a_round(tmp_path, tiny_cohort, slides, reference):
    run = launch(tmp_path / "run", tiny_cohort, 3, mapping="ranks", mapping_ranks=2, max_steps=8)
    assert_equal(result(run, 0)[0], reference)
    rounds = run / "checkpoint-8" / "mapping" / "rounds"
    for path in rounds.glob("[0-9]*.json"):
        fresh = [entry["file"] for entry in json.loads(path.read_text())["entries"] if entry["round"] == int(path.stem)]
        assert len(fresh) == SETTINGS["slides_per_round"]
    assert not list((run / "_mapping" / "claims").glob("*"))


def test_mapping_ranks_need_processes(tmp_path):
    with pytest.raises(ValueError, match="--num_processes 3"):
        WsiTrainingArguments(output_dir=str(tmp_path), **{**SETTINGS, "mapping": "ranks", "mapping_ranks": 2})
