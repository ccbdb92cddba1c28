"""Two CPU processes under torchrun: they share the patches out and end with the same weights."""

import csv
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import torch
from tests.training.conftest import make_trainer, weights
from wsi_hf.cohorts.camelyon16 import load_cohort

if __name__ == "__main__":
    slides = load_cohort({cohort!r}).filter(lambda row: row["split"] == "train")
    out = Path({out!r})
    trainer = make_trainer(out, slides, per_device_train_batch_size={batch}, max_steps=4, mapping={mapping!r},
                           ddp_backend="gloo", save_strategy="steps", save_steps=2)
    trainer.train()
    metrics = trainer.evaluate()
    torch.save((weights(trainer), metrics), out / f"rank{{trainer.args.process_index}}.pt")
"""


def launch(folder: Path, cohort: Path, ranks: int, batch: int, mapping: str) -> None:
    folder.mkdir()
    root = str(Path(__file__).resolve().parents[2])
    script = folder / "script.py"
    text = SCRIPT.format(root=root, cohort=str(cohort), out=str(folder), batch=batch, mapping=mapping)
    script.write_text(textwrap.dedent(text))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    done = subprocess.run([*torchrun, str(script)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


def draws(folder: Path, rank: int) -> list[tuple[str, ...]]:
    """(step, slide, label, x, y, map round) of what a rank read."""
    with open(folder / "_mapping" / f"draws.{rank}.csv") as file:
        return [tuple(row[:6]) for row in csv.reader(file)]


@pytest.mark.parametrize("mapping", ["inline", "child"])
def test_two_ranks_share_out_the_patches_and_agree(tmp_path, tiny_cohort, mapping):
    launch(tmp_path / "two", tiny_cohort, ranks=2, batch=2, mapping=mapping)
    first, second = draws(tmp_path / "two", 0), draws(tmp_path / "two", 1)
    assert len(first) == len(second) == 4 * 2
    assert {row[2] for row in first} == {"0", "1"}  # each rank reads both classes
    assert first != second
    (weights_0, metrics_0), (weights_1, metrics_1) = (torch.load(tmp_path / "two" / f"rank{r}.pt") for r in (0, 1))
    assert metrics_0 == metrics_1
    for name, tensor in weights_0.items():
        if "running" not in name:  # each rank keeps the batch statistics of its own patches
            assert torch.equal(tensor, weights_1[name]), name
    assert sorted(path.name for path in (tmp_path / "two").glob("checkpoint-*/mapping")) == ["mapping", "mapping"]


def test_two_ranks_read_in_the_first_round_what_one_rank_reads(tmp_path, tiny_cohort):
    launch(tmp_path / "two", tiny_cohort, ranks=2, batch=2, mapping="inline")
    launch(tmp_path / "one", tiny_cohort, ranks=1, batch=4, mapping="inline")
    one = [row for row in draws(tmp_path / "one", 0) if int(row[0]) < 2]  # later maps come from other batch statistics
    two = [row for rank in (0, 1) for row in draws(tmp_path / "two", rank) if int(row[0]) < 2]
    assert sorted(one) == sorted(two)
