"""A cohort's manifest: what is published of it, and what joins it to one's own copy of the slides."""

import json
import runpy
import shutil
from pathlib import Path

import pytest
from datasets import load_dataset

from wsi_hf.cli import main
from wsi_hf.cohorts.camelyon16 import FEATURES, load_cohort, split_validation
from wsi_hf.cohorts.manifest import Cohort, checksum, manifest

from .conftest import train


@pytest.fixture
def folder(tiny_cohort: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_cohort, tmp_path / "a hospital" / "cohort"))


def test_a_manifest_holds_labels_splits_and_checksums_and_no_image(hub, folder):
    cohort = load_cohort(folder)
    cohort.push_to_hub("org/cohort", private=True)
    repo = hub.repo("datasets", "org/cohort")
    assert repo.private
    published = b"".join(repo.files().values())
    assert b"a hospital" not in published
    assert len(published) < 30_000
    parts = load_dataset("org/cohort")
    assert {name: len(part) for name, part in parts.items()} == {"train": 8, "test": 4}
    row = next(row for row in parts["train"] if row["slide_id"] == "tumor_001")
    assert row["path"] == "tumor_001.tif"
    assert row["annotation"] is None  # it lies outside the folder of the slides
    assert parts["train"].features["label"].names == ["benign", "malignant"]
    assert (row["bytes"], row["sha256"]) == checksum(folder / "images" / "tumor_001.tif")


def test_another_copy_of_the_slides_gives_the_same_cohort(hub, folder, tmp_path):
    load_cohort(folder).push_to_hub("org/cohort", slides=folder)
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    cohort = load_cohort("org/cohort", slides=copy, verify=True)
    expected = {row["slide_id"]: row for row in load_cohort(copy)}
    assert {row["slide_id"]: row for row in cohort} == expected
    assert cohort.features == FEATURES
    assert cohort.info.dataset_name == "org/cohort"


def test_a_slide_that_is_missing_or_changed_is_named(hub, folder):
    load_cohort(folder).push_to_hub("org/cohort", slides=folder)
    images = folder / "images"
    (images / "tumor_001.tif").unlink()
    with open(images / "normal_001.tif", "ab") as file:
        file.write(b"more")
    with pytest.raises(
        ValueError, match=r"2 of the 12 slides .*normal_001\.tif has another size.*tumor_001\.tif is mis"
    ):
        load_cohort("org/cohort", slides=folder)


def test_a_slide_of_the_same_size_and_other_content_is_found_when_asked(hub, folder):
    load_cohort(folder).push_to_hub("org/cohort", slides=folder)
    path = folder / "images" / "normal_001.tif"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    load_cohort("org/cohort", slides=folder)
    with pytest.raises(ValueError, match=r"normal_001\.tif has another content"):
        load_cohort("org/cohort", slides=folder, verify=True)


def test_a_part_of_a_cohort_publishes_no_more_than_the_whole(folder):
    cohort = split_validation(load_cohort(folder), 0.25, seed=0)
    parts = [cohort, cohort.select(range(4)), cohort.filter(lambda row: row["split"] == "test"), cohort.shuffle(seed=0)]
    for part in parts:
        assert isinstance(part, Cohort)
        assert "a hospital" not in json.dumps([split.to_list() for split in manifest(part).values()])


def test_slides_outside_the_folder_are_refused(folder):
    with pytest.raises(ValueError, match="lies outside"):
        manifest(load_cohort(folder), folder / "annotations")


def test_a_name_without_slides_says_what_is_missing():
    with pytest.raises(FileNotFoundError, match="say where its slides are"):
        load_cohort("org/cohort")


def test_the_command_evaluates_on_a_manifest(hub, folder, finished_run, tmp_path, capsys):
    load_cohort(folder).push_to_hub("org/cohort", slides=folder)
    command = ["evaluate", "--cohort", "org/cohort", "--slides", str(folder), "--model", str(finished_run)]
    assert main([*command, "--out", str(tmp_path / "out"), "--device", "cpu", "--threads", "1"]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["slide_auc"]["n"] == 4


def test_a_model_trained_on_a_manifest_names_it_in_its_card(hub, folder, tmp_path):
    load_cohort(folder).push_to_hub("org/cohort", slides=folder)
    trainer = train(tmp_path / "run", folder)
    trainer.cohort = load_cohort("org/cohort", slides=folder)
    trainer.push_to_hub()
    card = hub.repo("models", "someone/run").files()["README.md"].decode()
    assert "datasets:\n- org/cohort\n" in card


def test_the_training_example_takes_a_manifest_and_pushes(hub, folder, tmp_path, monkeypatch):
    load_cohort(folder).push_to_hub("org/cohort", slides=folder)
    example = Path(__file__).resolve().parents[2] / "examples" / "train_camelyon16.py"
    options = f"""--cohort org/cohort --slides X --output_dir {tmp_path}/out --recipe demo --filters 2 --depth 1
        --mapping inline --steps_per_round 1 --beta_1_warmup_steps 0 --per_device_train_batch_size 2 --use_cpu True
        --shuffle_buffer 2 --push_to_hub True --hub_model_id org/trained --hub_strategy end --max_steps 2
        --pretrain_steps 1"""
    monkeypatch.setattr("sys.argv", ["train", *(str(folder) if word == "X" else word for word in options.split())])
    runpy.run_path(str(example), run_name="__main__")
    files = hub.repo("models", "org/trained").files()
    assert {"metrics.json", "overlay.png", "training.png"} <= set(files)
    assert not [name for name in files if "_autoencoder" in name]
    assert "datasets:\n- org/cohort\n" in files["README.md"].decode()
