"""Without a network everything but pushing works, from the cache or a folder; before that, what fills the cache."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.hub.push import push_run

from .conftest import Done, point_at, run_fresh
from .hub_server import HubServer

METRIC = Path(__file__).resolve().parents[2] / "wsi_hf" / "evaluation" / "metrics" / "froc"
PIPELINE = """
import wsi_hf
from transformers import pipeline
result = pipeline("wsi-segmentation", model={model!r})({slide!r})
print(result["label"], result["revision"])
"""
FROC = """
import evaluate
froc = evaluate.load({metric!r})
mask = [[1] * 64] * 32 + [[0] * 64] * 32
print(froc.compute(predictions=[[[0.9, 16, 16], [0.1, 900, 1900]]], references=[mask])["froc"])
"""
MANIFEST = """
from wsi_hf import load_cohort
print(len(load_cohort("org/cohort", slides={cohort!r})))
"""
COMMAND = """
import sys
from wsi_hf.cli import main
print(main({arguments!r}))
"""


@pytest.fixture(scope="module")
def done(
    finished_run: Path, tiny_cohort: Path, synthetic_slide: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Done]:
    """What processes left that used the Hub, and then others without any network."""
    folder = tmp_path_factory.mktemp("offline")
    run = shutil.copytree(finished_run, folder / "run")
    half = shutil.copytree(finished_run, folder / "half")
    (half / "preprocessor_config.json").unlink()
    slide = str(synthetic_slide)
    segment = ["segment", slide, "--device", "cpu", "--out"]
    online = {
        "pipeline": PIPELINE.format(model="org/model", slide=slide),
        "metric": FROC.format(metric="org/froc"),
        "manifest": MANIFEST.format(cohort=str(tiny_cohort)),
    }
    offline = {
        **online,
        "pipeline, folder": PIPELINE.format(model=str(run), slide=slide),
        "metric, folder": FROC.format(metric=str(METRIC)),
        "command": COMMAND.format(arguments=[*segment, "a", "--model", "org/model"]),
        "never loaded": COMMAND.format(arguments=[*segment, "b", "--model", "org/other"]),
        "half a folder": COMMAND.format(arguments=[*segment, "c", "--model", str(half)]),
        "no folder": COMMAND.format(arguments=[*segment, "d", "--model", "./nowhere"]),
        "push": COMMAND.format(arguments=["push", str(run), "org/model"]),
        "dry run": COMMAND.format(arguments=["push", str(run), "org/model", "--dry-run"]),
    }
    with pytest.MonkeyPatch.context() as monkeypatch:
        with HubServer() as hub:
            point_at(hub, folder / "hf_home", monkeypatch)
            push_run(run, "org/model")
            load_cohort(tiny_cohort).push_to_hub("org/cohort", slides=tiny_cohort)
            api = HfApi()
            api.create_repo("org/froc", repo_type="space", space_sdk="gradio")
            api.upload_folder(
                repo_id="org/froc", repo_type="space", folder_path=METRIC, ignore_patterns="__pycache__/*"
            )
            first = run_fresh([(True, code) for code in online.values()], folder)
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
            monkeypatch.setenv(name, "1")
        second = run_fresh([(True, code) for code in offline.values()], folder)
    names = [f"online {name}" for name in online] + list(offline)
    return dict(zip(names, first + second, strict=True))


@pytest.mark.parametrize("what", ["pipeline", "metric", "manifest"])
def test_what_the_cache_holds_works_as_it_did_with_the_network(done, what):
    assert done[f"online {what}"].out, done[f"online {what}"].error
    assert done[what].out == done[f"online {what}"].out, done[what].error


def test_the_metric_from_the_hub_computes_what_the_package_does(done):
    assert float(done["online metric"].out) == float(done["metric, folder"].out) > 0


def test_a_folder_works(done):
    label, revision = done["pipeline, folder"].out.split()
    assert label in ("benign", "malignant")
    assert revision == "None"


def test_the_command_works(done):
    assert done["command"].out.split()[0] == "tumor_001", done["command"].error
    assert done["command"].out.split()[-1] == "0"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("never loaded", "hf download org/other --local-dir"),
        ("half a folder", "holds no preprocessor_config.json: give"),
        ("no folder", "there is no folder nowhere"),
        ("push", "unset HF_HUB_OFFLINE"),
    ],
)
def test_what_cannot_work_says_what_to_do(done, what, says):
    assert done[what].out.strip() == "1"
    assert says in done[what].error
    assert "Traceback" not in done[what].error


def test_what_would_be_pushed_can_still_be_seen(done):
    assert "model.safetensors" in done["dry run"].out
