"""SIGKILL at any moment, then --resume_from_checkpoint: the final weights are those of a run that was never killed."""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.training.checkpoints.manifest import MANIFEST

from .conftest import assert_equal, make_trainer, weights
from .processes import begin, finish, processes_of, wait_until

KILLS = [("inline", "trainer")] * 6 + [("child", "trainer")] * 2 + [("child", "mapper")] * 2


def train(out: Path, cohort: Path, mapping: str) -> None:
    slides = load_cohort(cohort).filter(lambda row: row["split"] == "train")
    trainer = make_trainer(
        out, slides, mapping=mapping, max_steps=14, save_strategy="steps", save_steps=3, save_total_limit=1
    )
    complete = any(out.glob(f"checkpoint-*/{MANIFEST}"))
    trainer.train(resume_from_checkpoint=True if complete else None)
    torch.save(weights(trainer), out / "done.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ten_kills_change_nothing(tmp_path, tiny_cohort):
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")
    rng = random.Random(seed)
    begun = time.monotonic()
    finish(begin(train, tmp_path / "whole", tiny_cohort, "inline"))
    span = time.monotonic() - begun
    whole, run = torch.load(tmp_path / "whole" / "done.pt"), tmp_path / "run"

    for mapping, victim in rng.sample(KILLS, len(KILLS)):
        process = begin(train, run, tiny_cohort, mapping)
        if mapping == "child":
            wait_until(lambda p=process: processes_of(run) or not p.is_alive())
        process.join(timeout=rng.uniform(0, 1 if victim == "trainer" and mapping == "inline" else 3) * span)
        mappers = processes_of(run)
        if victim == "trainer" and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        elif victim == "mapper" and mappers:
            os.kill(mappers[0], signal.SIGKILL)
        finish(process)
        wait_until(lambda: not processes_of(run))  # no orphans
        if (run / "done.pt").exists():
            check(run, whole)
            shutil.rmtree(run)

    finish(begin(train, run, tiny_cohort, "inline"))
    check(run, whole)


def check(run: Path, whole: dict[str, torch.Tensor]) -> None:
    assert_equal(torch.load(run / "done.pt"), whole)
    left = [path for path in (run / "_mapping").rglob("*") if ".part" in path.name]
    assert not left, "stale hand-over files"
    assert not [path for name in ("mappers", "claims") for path in (run / "_mapping" / name).glob("*")], "stale leases"
    assert not (run / "_mapping" / "failed.txt").exists()
