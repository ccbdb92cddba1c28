"""Memory stays flat over a long training, under a limit of the operating system."""

import resource
from pathlib import Path

import psutil
import torch
from transformers import TrainerCallback

from wsi_hf import WsiTrainer, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.slides.handles import configure_handles, pool

from .conftest import SETTINGS
from .processes import begin, finish

STEPS, WARM = 2000, 400
ROOM = 24 * 2**20
"""Bytes that the process may still take after its first steps."""


class Limit(TrainerCallback):
    """Allows no more than ROOM once the training has warmed up."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == WARM:
            used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_DATA, (used + ROOM, used + ROOM))
            self.resident = psutil.Process().memory_info().rss


def train(out: Path, cohort: Path) -> None:
    configure_handles(max_open=3, cache_bytes=2**20)
    slides, limit = load_cohort(cohort).filter(lambda row: row["split"] == "train"), Limit()
    changes = {"max_steps": STEPS, "per_device_train_batch_size": 2, "patch_size": 8, "steps_per_round": 50,
               "slides_per_round": 2, "logging_steps": 50, "max_epochs_unmapped": 100}  # fmt: skip
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=1, depth=1))
    args = WsiTrainingArguments(output_dir=str(out), **{**SETTINGS, **changes})
    trainer = WsiTrainer(model, args, slides)
    trainer.add_callback(limit)
    trainer.train()
    assert psutil.Process().memory_info().rss - limit.resident < ROOM
    assert len(pool()) <= 3
    torch.save(trainer.state.global_step, out / "steps.pt")


def test_two_thousand_steps_take_no_more_memory_than_the_first(tmp_path, tiny_cohort):
    process = begin(train, tmp_path, tiny_cohort)
    finish(process)
    assert process.exitcode == 0
    assert torch.load(tmp_path / "steps.pt") == STEPS
    files = list((tmp_path / "_mapping" / "maps").iterdir())
    assert len(files) < 40  # of 40 rounds
