"""Pulling in all four cells of "imported / installed / not installed / trust flag", and what a result remembers."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import AutoModelForSemanticSegmentation, pipeline

from wsi_hf import WsiImageProcessor, WsiUNetForSegmentation
from wsi_hf.cli import main
from wsi_hf.hub.push import push_run

from .conftest import Done, point_at, run_fresh, train
from .hub_server import HubServer

PIPELINE = """
import transformers
pipe = transformers.pipeline("wsi-segmentation", model={model!r}{trust})
print(type(pipe).__module__)
"""
MODEL = """
import torch
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
model = AutoModelForSemanticSegmentation.from_pretrained({model!r}{trust})
processor = AutoImageProcessor.from_pretrained({model!r}{trust})
pixels = processor.normalize_batch(torch.full((1, 16, 16, 3), 100, dtype=torch.uint8))
print(type(model).__module__, model(pixel_values=pixels).logits.double().sum().item())
"""
IMPORT, TRUST = "import wsi_hf", ", trust_remote_code=True"
CELLS = {  # installed?, import before?, what, which repository, with the flag?
    "imported": (True, IMPORT, MODEL, "org/plain", ""),
    "imported, flag": (True, IMPORT, MODEL, "org/plain", TRUST),
    "installed": (True, "", MODEL, "org/plain", ""),
    "installed, flag": (True, "", MODEL, "org/plain", TRUST),
    "absent": (False, "", MODEL, "org/plain", ""),
    "absent, flag": (False, "", MODEL, "org/plain", TRUST),
    "pipeline, imported": (True, IMPORT, PIPELINE, "org/plain", ""),
    "pipeline, imported, flag": (True, IMPORT, PIPELINE, "org/plain", TRUST),
    "pipeline, installed": (True, "", PIPELINE, "org/plain", ""),
    "pipeline, absent": (False, "", PIPELINE, "org/plain", ""),
    "remote pipeline, imported": (True, IMPORT, PIPELINE, "org/remote", ""),
    "remote pipeline, imported, flag": (True, IMPORT, PIPELINE, "org/remote", TRUST),
    "remote pipeline, installed, flag": (True, "", PIPELINE, "org/remote", TRUST),
    "remote pipeline, absent, flag": (False, "", PIPELINE, "org/remote", TRUST),
}


@pytest.fixture(scope="module")
def cells(finished_run: Path, synthetic_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Each cell in a process of its own, against one Hub that holds a plain push and one with a remote pipeline."""
    folder = tmp_path_factory.mktemp("cells")
    shutil.copy(synthetic_slide, folder / "slide.svs")
    run = shutil.copytree(finished_run, folder / "run")
    with pytest.MonkeyPatch.context() as monkeypatch, HubServer() as hub:
        point_at(hub, folder / "hf_home", monkeypatch)
        push_run(run, "org/plain")
        push_run(run, "org/remote", remote_code_pipeline=True)
        snippets = [
            (installed, before + code.format(model=model, trust=trust))
            for installed, before, code, model, trust in CELLS.values()
        ]
        repo = hub.repo("models", "org/plain")
        lines = re.search(r"```python\n(.*?)```", repo.files()["README.md"].decode(), re.DOTALL)[1]
        assert len(re.findall(r"\S.*", lines)) == 3
        snippets.append((True, lines + f"assert result['revision'] == {repo.refs['main']!r}; print(result['label'])"))
        return dict(zip([*CELLS, "the card's three lines"], run_fresh(snippets, folder), strict=True))


@pytest.fixture
def pushed(hub: HubServer, finished_run: Path, tmp_path: Path) -> HubServer:
    push_run(shutil.copytree(finished_run, tmp_path / "run"), "org/model")
    return hub


@pytest.fixture(scope="module")
def expected_sum(finished_run: Path) -> float:
    model = WsiUNetForSegmentation.from_pretrained(finished_run)
    pixels = WsiImageProcessor.from_pretrained(finished_run).normalize_batch(torch.full((1, 16, 16, 3), 100).byte())
    return model(pixel_values=pixels).logits.double().sum().item()


@pytest.mark.parametrize("cell", ["imported", "imported, flag"])
def test_imported_needs_no_flag_and_runs_its_own_code_in_any_case(cells, cell, expected_sum):
    module, total = (cells[cell].out or cells[cell].error).split()
    assert module == "wsi_hf.models.modeling_wsi_unet"
    assert float(total) == pytest.approx(expected_sum, abs=1e-6)


@pytest.mark.parametrize("cell", ["installed, flag", "absent, flag"])
def test_the_flag_brings_the_code_along(cells, cell, expected_sum):
    module, total = (cells[cell].out or cells[cell].error).split()
    assert module.startswith("transformers_modules.")
    assert float(total) == pytest.approx(expected_sum, abs=1e-6)


@pytest.mark.parametrize("cell", ["installed", "absent", "pipeline, installed", "pipeline, absent"])
def test_neither_import_nor_flag_asks_for_the_flag(cells, cell):
    assert "trust_remote_code=True" in cells[cell].out + cells[cell].error
    assert "transformers_modules" not in cells[cell].out


@pytest.mark.parametrize("cell", ["pipeline, imported", "pipeline, imported, flag", "remote pipeline, imported, flag"])
def test_the_pipeline_of_the_imported_package(cells, cell):
    assert cells[cell].out.strip() == "wsi_hf.segmentation.pipeline", cells[cell].error


def test_the_remote_pipeline_works_without_the_import(cells):
    cell = cells["remote pipeline, installed, flag"]
    assert cell.out.strip() == "wsi_hf.segmentation.pipeline", cell.error


def test_the_remote_pipeline_wants_the_flag_from_everybody(cells):
    assert "trust_remote_code=True" in cells["remote pipeline, imported"].error


def test_the_remote_pipeline_asks_for_the_package_where_it_is_not(cells):
    assert cells["remote pipeline, absent, flag"].out == ""
    assert "pip install wsi_hf" in cells["remote pipeline, absent, flag"].error


def test_the_cards_three_lines_work_as_they_stand(cells):
    cell = cells["the card's three lines"]
    assert cell.out.strip() in ("benign", "malignant"), cell.error


# --- the revision


def test_every_output_names_the_commit_that_was_loaded(pushed, synthetic_slide, tmp_path):
    repo = pushed.repo("models", "org/model")
    first = repo.refs["main"]
    repo.commit(dict(repo.commits[first]), "Nothing new")
    pipe = pipeline("wsi-segmentation", model="org/model", revision=first)
    result = pipe(str(synthetic_slide), out=tmp_path / "out")
    assert (result["model"], result["revision"]) == ("org/model", first)
    assert result["probability_map"].attrs["model"]["revision"] == first
    folder = Path(result["folder"])
    assert json.loads((folder / "summary.json").read_text())["model"]["revision"] == first
    assert json.loads((folder / "lesions.geojson").read_text())["made_by"] == f"org/model@{first}"
    assert f"org/model@{first}".encode() in (folder / "probabilities.ome.tif").read_bytes()
    latest = pipeline("wsi-segmentation", model="org/model")
    assert latest.model.config._commit_hash == repo.refs["main"] != first


def test_the_command_pins_a_revision(pushed, synthetic_slide, tmp_path):
    repo = pushed.repo("models", "org/model")
    first = repo.refs["main"]
    repo.commit({}, "Everything gone")
    command = ["segment", str(synthetic_slide), "--model", "org/model", "--revision", first, "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "tumor_001" / "summary.json").read_text())["model"]["revision"] == first


def test_a_model_that_was_trained_on_is_no_longer_that_commit(pushed, tiny_cohort, tmp_path):
    trainer = train(tmp_path / "more", tiny_cohort)
    trainer.model = WsiUNetForSegmentation.from_pretrained("org/model")
    assert trainer.model.config._commit_hash is not None
    trainer.train()
    assert trainer.model.config._commit_hash is None
    assert trainer.model.config.name_or_path != "org/model"


# --- downloads that break, and other tools


def test_a_download_cut_in_the_middle_goes_on_where_it_stopped(pushed, monkeypatch, finished_run):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    pushed.cut("GET /lfs", after=5000)
    path = hf_hub_download("org/model", "model.safetensors")
    assert Path(path).read_bytes() == (finished_run / "model.safetensors").read_bytes()
    assert sum(call.startswith("GET /lfs") for call in pushed.calls) == 2


def test_a_download_that_fails_leaves_nothing_half_and_the_retry_completes_it(pushed, monkeypatch, finished_run):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    pushed.cut("GET /lfs", after=0, times=1000)
    with pytest.raises(Exception, match=r"closed|complete"):
        hf_hub_download("org/model", "model.safetensors")
    pushed.faults.clear()
    model = AutoModelForSemanticSegmentation.from_pretrained("org/model")
    expected = WsiUNetForSegmentation.from_pretrained(finished_run).state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in model.state_dict().items())


def test_the_hf_command_uploads_and_downloads_the_folder(hub, finished_run, tmp_path):
    hf = str(Path(sys.executable).with_name("hf"))
    for command in (
        [hf, "repos", "create", "org/byhand"],
        [hf, "upload", "org/byhand", str(finished_run), ".", "--exclude", "_*"],
        [hf, "download", "org/byhand", "--local-dir", str(tmp_path / "copy")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    pipe = pipeline("wsi-segmentation", model=str(tmp_path / "copy"))
    assert pipe.model.config.name_or_path == str(tmp_path / "copy")
    assert snapshot_download("org/byhand")
