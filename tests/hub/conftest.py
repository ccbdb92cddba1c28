"""A Hub on loopback, this process pointed at it, and a finished run to push: made once a session."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import constants

from wsi_hf import WsiTrainer, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.reports.cohort import evaluate_cohort
from wsi_hf.reports.run import plot_run

from .hub_server import TOKEN, HubServer

SETTINGS = {
    "use_cpu": True, "cpu_threads": 1, "per_device_train_batch_size": 4, "max_steps": 4, "patch_size": 32,
    "steps_per_round": 2, "slides_per_round": 4, "shuffle_buffer": 3, "mapping": "inline", "mapping_tile_size": 128,
    "logging_steps": 2, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
}  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty Hub, and this process (with an empty cache) and its children pointed at it."""
    with HubServer() as server:
        point_at(server, tmp_path / "hf_home", monkeypatch)
        yield server
    assert server.unknown == []


def point_at(server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process and its children take the server for the Hub: what is read at import is set by hand."""
    for name, value in environment(server, home).items():
        monkeypatch.setenv(name, value)
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.url)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")


def environment(server: HubServer, home: Path) -> dict[str, str]:
    """What a process needs to take the server for the Hub."""
    return {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }


FORKS = """
import json, os, sys
sys.path.pop(0)
import torch, transformers, transformers.pipelines  # and not wsi_hf
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "wsi_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for number, (installed, code) in enumerate(json.load(sys.stdin)):
    if not os.fork():
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT, 0o600), stream)
        if not installed:
            sys.meta_path.insert(0, NotInstalled())
        try:
            exec(code, {"__name__": "__main__"})
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


@dataclass(frozen=True)
class Done:
    """What a process left."""

    out: str
    error: str


def run_fresh(snippets: list[tuple[bool, str]], cwd: Path) -> list[Done]:
    """Run each (installed, code) in a process of its own that has imported transformers and never wsi_hf.

    They are forks of one process, which spares the import of torch and transformers for each.
    """
    subprocess.run(
        [sys.executable, "-c", FORKS], input=json.dumps(snippets), cwd=cwd, text=True, check=True, timeout=1800
    )
    read = [[(cwd / f"{number}.{name}").read_text() for name in ("out", "err")] for number in range(len(snippets))]
    return [Done(*texts) for texts in read]


def train(folder: Path, cohort: Path, **changes) -> WsiTrainer:
    """A trainer on the session's cohort, ready to train."""
    slides = load_cohort(cohort).filter(lambda row: row["split"] == "train")
    torch.manual_seed(0)
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2))
    args = WsiTrainingArguments(output_dir=str(folder), **{**SETTINGS, **changes})
    return WsiTrainer(model, args, slides, eval_dataset=slides.select([0, 7]))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_cohort: Path) -> Path:
    """A run's folder as examples/train_camelyon16.py leaves it; read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trainer = train(folder, tiny_cohort)
    trainer.train()
    trainer.save_model()
    test = load_cohort(tiny_cohort).filter(lambda row: row["split"] == "test")
    evaluate_cohort(trainer.model, test, folder, trainer.image_processor, include_itc=True)
    plot_run(folder, trainer.state.log_history, load_cohort(tiny_cohort).select([4, 5]), 32, 1.0)
    return folder
