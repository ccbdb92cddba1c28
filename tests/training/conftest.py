"""What the training tests share: a tiny model and trainings of a few steps on the session's cohort."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from wsi_hf import WsiTrainer, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.cohorts.camelyon16 import load_cohort

SETTINGS = {
    "use_cpu": True,
    "cpu_threads": 1,
    "per_device_train_batch_size": 4,
    "max_steps": 8,
    "learning_rate": 1e-3,
    "patch_size": 32,
    "steps_per_round": 2,
    "slides_per_round": 4,
    "shuffle_buffer": 3,
    "glass_weight": 0.1,
    "glass_share": 0.25,
    "mapping": "inline",
    "mapping_tile_size": 128,
    "logging_steps": 2,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 0,
}


def make_trainer(output_dir: Path, slides: Dataset, **changes) -> WsiTrainer:
    torch.manual_seed(0)
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=3))
    args = WsiTrainingArguments(output_dir=str(output_dir), **{**SETTINGS, **changes})
    return WsiTrainer(model, args, slides, eval_dataset=slides)


def weights(trainer: WsiTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(scope="session")
def slides(tiny_cohort: Path) -> Dataset:
    return load_cohort(tiny_cohort).filter(lambda row: row["split"] == "train")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, slides: Dataset) -> dict[str, torch.Tensor]:
    """The weights after the 8 steps of SETTINGS, trained without interruption."""
    trainer = make_trainer(tmp_path_factory.mktemp("reference"), slides)
    trainer.train()
    return weights(trainer)
