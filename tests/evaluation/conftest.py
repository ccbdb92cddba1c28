"""The session's one evaluated folder: an untrained model on the test slides of the session's cohort."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from wsi_hf import WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.cli import main

settings.register_profile("untimed", deadline=None)  # tests do not time
settings.load_profile("untimed")


def save_model(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2))
    model.save_pretrained(folder)
    WsiImageProcessor().save_pretrained(folder)
    return folder


def evaluate_arguments(cohort: Path, model: Path, out: Path, *more: str) -> list[str]:
    options = ["--detection-radius-um", "40", "--device", "cpu", "--tile-size", "256", *more]
    return ["evaluate", "--cohort", str(cohort), "--model", str(model), "--out", str(out), *options]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), seed=0)


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory, tiny_cohort: Path, model_folder: Path) -> Path:
    """2 + 2 slides, isolated tumour cells counted; written to by no test."""
    out = tmp_path_factory.mktemp("evaluated")
    assert main(evaluate_arguments(tiny_cohort, model_folder, out, "--include-itc")) == 0
    return out
