"""What a hostile repository, or a hostile way to it, could try: refused or without effect."""

import contextlib
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSemanticSegmentation, SegformerConfig, pipeline

from wsi_hf import WsiImageProcessor, WsiUNetConfig
from wsi_hf.cli import main
from wsi_hf.hub.push import push_run
from wsi_hf.inference.loading import load_model
from wsi_hf.models.downloads import ChecksumError, check_file

from .hub_server import HubServer

MODEL_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")


@pytest.fixture
def files(finished_run: Path) -> dict[str, bytes]:
    return {name: (finished_run / name).read_bytes() for name in MODEL_FILES}


class Canary:
    """Unpickled without care, it writes a file."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_weights_in_a_pickle_run_nothing(hub: HubServer, files, tmp_path):
    canary = tmp_path / "ran"
    del files["model.safetensors"]
    hub.add("models", "org/evil", {**files, "pytorch_model.bin": pickle.dumps(Canary(canary))})
    with pytest.raises((OSError, RuntimeError, ValueError, pickle.UnpicklingError)):
        pipeline("wsi-segmentation", model="org/evil")
    assert not canary.exists()


def test_pickled_arguments_beside_the_model_are_never_opened(hub, files, finished_run, tmp_path):
    canary = tmp_path / "ran"
    hub.add("models", "org/evil", {**files, "training_args.bin": pickle.dumps(Canary(canary))})
    pipeline("wsi-segmentation", model="org/evil")
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (run / "training_args.bin").write_bytes(pickle.dumps(Canary(canary)))
    push_run(run, "org/model")
    assert not canary.exists()


def test_code_in_a_repository_does_not_run_where_the_package_is_imported(hub, files, tmp_path):
    canary = tmp_path / "ran"
    evil = f"open({str(canary)!r}, 'w')\n".encode()
    code = dict.fromkeys(("modeling_wsi_unet.py", "configuration_wsi_unet.py", "image_processing_wsi.py"), evil)
    hub.add("models", "org/evil", {**files, **code})
    for options in ({}, {"trust_remote_code": True}):
        pipeline("wsi-segmentation", model="org/evil", **options)
    assert not canary.exists()


@pytest.mark.parametrize(
    "absurd",
    [
        {"filters": 10**9}, {"filters": -1}, {"depth": 60}, {"filters": 512, "depth": 7}, {"num_channels": 10**9},
        {"eta": 1e300}, {"mpp": 1e-9}, {"filters": "32"}, {"num_labels": 10**12}, {"mpp": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_sizes_are_refused_before_anything_is_built(hub, files, absurd):
    config = json.loads(files["config.json"]) | absurd
    hub.add("models", "org/evil", {**files, "config.json": json.dumps(config).encode()})
    with pytest.raises(Exception, match=next(iter(absurd))):
        AutoModelForSemanticSegmentation.from_pretrained("org/evil")
    assert not any("GET /lfs" in call for call in hub.calls)


def test_the_papers_network_and_much_larger_ones_are_not_absurd():
    for size in ({}, {"filters": 128, "depth": 5}):
        assert WsiUNetConfig(**size).filters >= 32


def test_weights_of_other_sizes_than_the_configuration_says_are_refused(hub, files):
    config = json.loads(files["config.json"]) | {"filters": 8}
    hub.add("models", "org/evil", {**files, "config.json": json.dumps(config).encode()})
    with pytest.raises(RuntimeError, match="mismatch"):
        AutoModelForSemanticSegmentation.from_pretrained("org/evil")


def test_weights_that_are_not_finite_are_refused(hub, files, finished_run, tmp_path, synthetic_slide):
    weights = load_file(finished_run / "model.safetensors")
    weights["classifier.weight"][:] = torch.nan
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    hub.add("models", "org/evil", {**files, "model.safetensors": (tmp_path / "model.safetensors").read_bytes()})
    with pytest.raises(ValueError, match="not finite"):
        pipeline("wsi-segmentation", model="org/evil")(str(synthetic_slide))


# --- file names that lead out of the folder


@pytest.mark.parametrize("name", ["../../escaped.txt", "a/../../../escaped.txt", "/escaped.txt", "..\\..\\escaped.txt"])
def test_file_names_that_lead_out_of_the_cache_write_nothing_there(hub, files, tmp_path, name):
    hub.add("models", "org/evil", files)
    hub.extra_tree = [{"type": "file", "path": name, "oid": "0" * 40, "size": 7}]
    with contextlib.suppress(ValueError, OSError):  # refused: also good
        snapshot_download("org/evil", local_dir=tmp_path / "deep" / "in" / "here")
    assert not [path for path in tmp_path.rglob("*escaped*") if "here" not in path.parts]
    pipeline("wsi-segmentation", model="org/evil")


def test_a_cohort_that_leads_out_of_the_slides_folder_is_refused(tmp_path):
    from wsi_hf.cohorts.manifest import inside

    assert inside(tmp_path, "a/b.tif") == tmp_path / "a" / "b.tif"
    for path in ("../secret.tif", "a/../../secret.tif", "/etc/passwd", "C:\\secret.tif", "..\\secret.tif", ""):
        with pytest.raises(ValueError, match="leads out of"):
            inside(tmp_path, path)


# --- content that is not what was announced


def lie(hub: HubServer, name: str) -> bytes:
    """From now on the server sends other bytes of the same length; returns what they should have been."""
    blob = hub.repo("models", "org/model").commits[hub.repo("models", "org/model").refs["main"]][name]
    middle = len(blob.content) - 9
    hub.lies[blob.oid] = blob.content[:middle] + bytes([blob.content[middle] ^ 1]) + blob.content[middle + 1 :]
    return blob.content


@pytest.mark.parametrize("how", ["pipeline", "auto class", "command"])
def test_weights_with_a_wrong_checksum_are_refused_until_they_are_downloaded_anew(
    hub, files, how, synthetic_slide, tmp_path, caplog
):
    hub.add("models", "org/model", files)
    content = lie(hub, "model.safetensors")
    if how == "pipeline":
        with pytest.raises(Exception, match="checksum"):
            pipeline("wsi-segmentation", model="org/model")
    elif how == "auto class":
        with pytest.raises(ChecksumError, match=r"model\.safetensors of org/model has the checksum"):
            AutoModelForSemanticSegmentation.from_pretrained("org/model")
    else:
        assert main(["segment", str(synthetic_slide), "--model", "org/model", "--out", str(tmp_path / "o")]) == 1
        assert "--force-download" in caplog.text
    hub.lies.clear()
    hf_hub_download("org/model", "model.safetensors", force_download=True)
    load_model("org/model")
    assert Path(hf_hub_download("org/model", "model.safetensors")).read_bytes() == content


@pytest.mark.parametrize("revision", [None, "main"])
def test_the_same_of_a_network_of_another_kind(hub, tmp_path, revision):
    config = SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16
    )
    AutoModelForSemanticSegmentation.from_config(config).save_pretrained(tmp_path)
    WsiImageProcessor(mpp=1.0).save_pretrained(tmp_path)
    hub.add("models", "org/model", {name: (tmp_path / name).read_bytes() for name in MODEL_FILES})
    lie(hub, "model.safetensors")
    commit = hub.repo("models", "org/model").refs["main"] if revision else None
    with pytest.raises(Exception, match="checksum"):
        pipeline("wsi-segmentation", model="org/model", revision=commit)
    with pytest.raises(ChecksumError):
        load_model("org/model", commit)


def test_a_mirrors_own_checksums_of_small_files_are_no_reason_to_refuse_or_delete_them(hub, files):
    hub.add("models", "org/model", files)
    config = Path(hf_hub_download("org/model", "config.json"))
    sha1 = config.resolve().with_name(hashlib.sha1(files["config.json"]).hexdigest())  # as Artifactory announces it
    config.resolve().rename(sha1)
    config.unlink()
    config.symlink_to(sha1)
    check_file(config, "config.json of org/model")
    load_model("org/model")
    assert config.read_bytes() == files["config.json"]


def test_an_index_of_weights_leads_to_no_file_outside_the_folder(finished_run, tmp_path):
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (run / "model.safetensors").rename(tmp_path / "outside.safetensors")
    names = load_file(tmp_path / "outside.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../outside.safetensors")}
    (run / "model.safetensors.index.json").write_text(json.dumps(index))
    for load in (AutoModelForSemanticSegmentation.from_pretrained, load_model):
        with pytest.raises(ValueError, match=r"names files outside its folder \(\.\./outside\.safetensors\)"):
            load(str(run))
    (run / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        load_model(str(run))


def test_a_file_altered_in_the_cache_is_noticed(hub, files):
    hub.add("models", "org/model", files)
    load_model("org/model")
    blob = Path(hf_hub_download("org/model", "model.safetensors")).resolve()
    content = bytearray(blob.read_bytes())
    content[-5] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ChecksumError):
        load_model("org/model")
