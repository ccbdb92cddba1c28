"""What a push sends, and what it never sends."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from wsi_hf.cli import main
from wsi_hf.hub.push import push_run
from wsi_hf.hub.run_files import MODEL_CODE, published_files

from .hub_server import HubServer

UNET_CODE = set(MODEL_CODE) - {"configuration_wsi_encoder.py", "encoders.py", "modeling_wsi_encoder.py", "glass.py"}
"""What the U-Net imports; of the other files nothing travels with it."""
EVERYTHING = {
    "config.json", "model.safetensors", "preprocessor_config.json", "README.md", "metrics.json", "training_args.json",
    "training.png", "roc.png", "froc.png", "reliability.png", "overlay.png", *UNET_CODE,
}  # fmt: skip


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def sent(hub: HubServer, name: str = "org/model") -> dict[str, bytes]:
    files = hub.repo("models", name).files()
    del files[".gitattributes"]
    return files


def test_a_push_sends_what_is_listed_and_nothing_else(hub, run):
    push_run(run, "org/model")
    files = sent(hub)
    assert set(files) == EVERYTHING
    assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert files["README.md"] == (run / "README.md").read_bytes()


def test_nothing_that_is_sent_names_a_slide_or_a_folder(hub, run):
    push_run(run, "org/model")
    for name, content in sent(hub).items():
        for word in (b"tumor_00", b"normal_00", b"test_00", str(run).encode(), b"/tmp/"):
            assert word not in content, (name, word)


def test_the_overlay_carries_no_name_and_the_gallery_stays_at_home(run):
    assert (run / "overlays.png").exists()
    assert "overlays.png" not in published_files(run)
    assert "overlays.png" in published_files(run, slide_names=True)
    assert not any("test_" in str(value) for value in Image.open(run / "overlay.png").info.values())


def test_the_arguments_go_as_json_without_what_is_local(hub, run):
    push_run(run, "org/model")
    arguments = json.loads(sent(hub)["training_args.json"])
    assert (arguments["beta_1"], arguments["alpha"], arguments["max_steps"]) == (1.0, 2.0, 4)
    assert not {"output_dir", "hub_token", "logging_dir", "run_name"} & set(arguments)


def test_metrics_say_how_many_slides_were_left_out_but_not_which(hub, run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["cohort"] = {"n": 4, "failed": {"test_003": "test_003.tif cannot be read"}, "partly_not_analysed": []}
    (run / "metrics.json").write_text(json.dumps(metrics))
    push_run(run, "org/model")
    assert json.loads(sent(hub)["metrics.json"])["cohort"] == {"n": 4, "failed": 1, "partly_not_analysed": 0}


@pytest.mark.parametrize("text", ["seen in test_001", "/home/someone/slides/a.svs", "tumor_001.tif"])
def test_names_and_paths_that_slipped_in_are_refused(hub, run, text):
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"note": {"text": text}}))
    with pytest.raises(ValueError, match=r"metrics\.json names .* --slide-names"):
        push_run(run, "org/model")
    assert hub.repos == {}
    push_run(run, "org/model", slide_names=True)
    assert set(sent(hub)) == EVERYTHING | {"overlays.png"}


def test_a_later_push_without_names_takes_the_named_pictures_away(hub, run):
    push_run(run, "org/model", slide_names=True)
    push_run(run, "org/model")
    assert set(sent(hub)) == EVERYTHING


def test_a_second_push_of_the_same_run_sends_no_weights_again(hub, run):
    push_run(run, "org/model")
    before = sum(call.startswith("PUT /lfs") for call in hub.calls)
    push_run(run, "org/model")
    assert sum(call.startswith("PUT /lfs") for call in hub.calls) == before


def test_a_private_repository_is_private(hub, run):
    push_run(run, "org/model", private=True)
    assert hub.repo("models", "org/model").private


def test_model_and_image_processor_push_themselves(hub):
    from wsi_hf import WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation

    WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=1)).push_to_hub("org/model")
    WsiImageProcessor(mpp=0.5).push_to_hub("org/model")
    assert {"config.json", "model.safetensors", "preprocessor_config.json", *UNET_CODE} <= set(sent(hub))
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in sent(hub))


def test_the_command_pushes(hub, run, capsys):
    assert main(["push", str(run), "org/model", "--private", "--dataset", "synthetic slides"]) == 0
    assert capsys.readouterr().out.strip().startswith(hub.url + "/org/model/commit/")
    assert set(sent(hub)) == EVERYTHING
    assert "synthetic slides" in sent(hub)["README.md"].decode()


def test_a_dry_run_shows_everything_and_sends_nothing(hub, run, capsys, tmp_path):
    assert main(["push", str(run), "org/model", "--dry-run", "--out", str(tmp_path / "repository")]) == 0
    assert {path.name for path in (tmp_path / "repository").iterdir()} == EVERYTHING
    shown = capsys.readouterr().out
    assert all(name in shown for name in EVERYTHING)
    assert "not a medical device" in shown
    assert hub.calls == []
    assert not (run / "README.md").exists()


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_an_unfinished_run_is_refused_before_anything_is_sent(hub, run, missing, caplog):
    (run / missing).unlink()
    assert main(["push", str(run), "org/model"]) == 1
    assert missing in caplog.text
    assert hub.calls == []


def test_without_a_token_the_way_out_is_named(hub, run, caplog, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main(["push", str(run), "org/model"]) == 1
    assert "hf auth login" in caplog.text


def test_shards_outside_the_folder_are_not_sent(run):
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (run / "model.safetensors.index.json").write_text(json.dumps(index))
    (run / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="outside its folder"):
        published_files(run)


# --- connections that break


def test_an_upload_cut_in_the_middle_is_taken_up_again(hub, run):
    hub.cut("PUT /lfs", after=2000)
    push_run(run, "org/model")
    assert sent(hub)["model.safetensors"] == (run / "model.safetensors").read_bytes()


def test_a_push_that_fails_leaves_the_repository_as_it_was_and_the_retry_completes_it(hub, run, caplog, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.cut("PUT /lfs", after=2000, times=1000)
    assert main(["push", str(run), "org/model"]) == 1
    assert "push again" in caplog.text
    assert sent(hub) == {}
    hub.faults.clear()
    assert main(["push", str(run), "org/model"]) == 0
    assert sent(hub)["model.safetensors"] == (run / "model.safetensors").read_bytes()


def test_a_hub_that_is_not_well_for_a_moment_is_asked_again(hub, run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.answer("POST /api/models/org/model/preupload", status=503)
    push_run(run, "org/model")
    assert set(sent(hub)) == EVERYTHING
