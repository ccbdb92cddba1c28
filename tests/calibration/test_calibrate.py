"""`wsi-hf calibrate` from labels alone: written into the model, taken up by every result, plain where it cannot be."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForSemanticSegmentation, pipeline

from wsi_hf import WsiImageProcessor, segment_slide
from wsi_hf.cli import main
from wsi_hf.segmentation.calibration import calibration_of

from .conftest import dark_model, draw, write_cohort

OPTIONS = ["--device", "cpu", "--threads", "1"]


def calibrate(model, cohort, *more: str) -> int:
    return main(["calibrate", "--model", str(model), "--cohort", str(cohort), *OPTIONS, *more])


def test_after_it_half_is_the_operating_point_everywhere(dark_folder, local_slides, tmp_path, capsys):
    fresh = write_cohort(tmp_path / "fresh", 8, seed=1).parent
    before = pipeline("wsi-segmentation", model=str(dark_folder))(str(fresh), mpp=1.0)
    assert {result["label"] for result in before} == {"malignant"}  # the fault that this is for
    assert all("not calibrated" in result["warnings"][0] and not result["calibrated"] for result in before)

    assert calibrate(dark_folder, local_slides) == 0
    said = capsys.readouterr().out
    assert "Calibrated on 10 benign and 10 malignant slides" in said
    assert "95 % interval" in said
    assert main(["segment", str(fresh), "--model", str(dark_folder), "--out", str(tmp_path / "out"), "--mpp", "1"]) == 0
    with open(tmp_path / "out" / "slides.csv", newline="") as file:
        rows = {row["slide_id"]: row for row in csv.DictReader(file)}
    right = [row["label"] in name for name, row in rows.items()]
    assert len(rows) == 16
    assert np.mean(right) >= 0.85
    assert np.mean([int(row["lesions"]) for name, row in rows.items() if name.startswith("benign")]) <= 0.5
    for old in before:
        new = rows[old["slide_id"]]
        assert float(new["raw_score"]) == pytest.approx(old["raw_score"], abs=1e-4)  # other threads round differently
        assert float(new["margin"]) == pytest.approx(old["margin"], abs=1e-3)
        assert (float(new["score"]) >= 0.5) == (new["label"] == "malignant")
    summary = json.loads((tmp_path / "out" / "malignant_0" / "summary.json").read_text())
    assert summary["calibrated"]
    assert summary["settings"]["calibration"]["rule"] == "balanced accuracy"


def test_maps_and_lesions_are_cut_at_the_shift(dark_folder, local_slides, tmp_path):
    assert calibrate(dark_folder, local_slides) == 0
    model = AutoModelForSemanticSegmentation.from_pretrained(dark_folder)
    calibration = calibration_of(model.config)
    slide = local_slides.parent / "malignant_0.png"
    result = segment_slide(model, slide, mpp=1.0, keep_margins=True)
    margins = torch.from_numpy(result.margins[:])
    expected = torch.sigmoid((margins - calibration.shift) / calibration.temperature)
    torch.testing.assert_close(torch.from_numpy(result.probabilities[:]), expected)
    assert result.smallest_um2 == calibration.smallest_um2
    lower = segment_slide(model, slide, mpp=1.0, threshold=0.1, smallest_um2=1)  # an override still overrides
    assert lower.lesions[0].pixels >= result.lesions[0].pixels


def test_the_calibration_travels_and_a_second_one_takes_up_the_measured_slides(dark_folder, local_slides, tmp_path):
    assert calibrate(dark_folder, local_slides, "--out", str(tmp_path / "copy")) == 0
    stored = json.loads((tmp_path / "copy" / "config.json").read_text())["calibration"]
    assert json.loads((dark_folder / "config.json").read_text())["calibration"] is None
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "copy")
    model.save_pretrained(tmp_path / "again")
    assert AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "again").config.calibration == stored
    records = {p: p.stat().st_mtime_ns for p in (tmp_path / "copy" / "_calibration").iterdir()}
    assert len(records) == 20
    assert calibrate(tmp_path / "copy", local_slides, "--sensitivity", "0.9") == 0
    assert {p: p.stat().st_mtime_ns for p in records} == records
    moved = json.loads((tmp_path / "copy" / "config.json").read_text())["calibration"]
    assert moved["rule"] == "sensitivity 0.9"
    assert moved["slide"]["slope"] == stored["slide"]["slope"]


def test_what_cannot_be_calibrated_is_said_and_nothing_is_written(dark_folder, local_slides, tmp_path, caplog):
    config = (dark_folder / "config.json").read_bytes()
    rows = list(csv.DictReader(open(local_slides, newline="")))  # noqa: SIM115
    folder = shutil.copytree(local_slides.parent, tmp_path / "cohort")

    def table(chosen: list[dict[str, str]]) -> None:
        with open(folder / "slides.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, ["path", "label", "mpp"])
            writer.writeheader()
            writer.writerows(chosen)

    benign, malignant = ([row for row in rows if row["label"] == label] for label in ("benign", "malignant"))
    turned = [{**row, "label": {"benign": "malignant", "malignant": "benign"}[row["label"]]} for row in rows]
    for chosen, reason in (
        (benign, "10 benign and 0 malignant slides are too few"),
        (rows[:3], "2 benign and 1 malignant slides are too few"),
        (turned, "do not have larger margins"),
    ):
        table(chosen)
        assert calibrate(dark_folder, folder / "slides.csv") == 1
        assert reason in caplog.text
    (folder / "broken.png").write_bytes(b"no picture")
    broken = {"path": "broken.png", "label": "malignant", "mpp": "1.0"}
    table([*benign[:6], broken, *malignant[:3]])
    assert calibrate(dark_folder, folder / "slides.csv") == 1
    assert "(1 could not be read)" in caplog.text
    assert (dark_folder / "config.json").read_bytes() == config
    table([*benign[:6], broken, *malignant[:6]])
    assert calibrate(dark_folder, folder / "slides.csv") == 1  # one slide failed, and it is said; the rest will do
    assert json.loads((dark_folder / "config.json").read_text())["calibration"]["n_malignant"] == 6


def test_a_slide_unlike_the_others_is_warned_of(dark_folder, local_slides, tmp_path):
    assert calibrate(dark_folder, local_slides) == 0
    model = AutoModelForSemanticSegmentation.from_pretrained(dark_folder)
    own = segment_slide(model, local_slides.parent / "benign_3.png", mpp=1.0)
    assert own.warnings == []
    strange = draw(np.random.default_rng(0), [])[..., ::-1] // 2 + np.uint8(60)
    result = pipeline("wsi-segmentation", model=str(dark_folder))(strange, mpp=1.0, tissue=None)
    assert "unlike the slides that this model was calibrated on" in result["warnings"][0]


def test_a_training_drops_the_calibration_of_the_weights_it_started_from(tmp_path, tiny_cohort):
    from tests.training.conftest import SETTINGS
    from wsi_hf import WsiTrainer, WsiTrainingArguments
    from wsi_hf.cohorts.camelyon16 import load_cohort

    model = dark_model()
    model.config.calibration = {"version": 1}
    slides = load_cohort(tiny_cohort).filter(lambda row: row["split"] == "train")
    args = WsiTrainingArguments(output_dir=str(tmp_path / "run"), **{**SETTINGS, "max_steps": 1})
    WsiTrainer(model, args, slides, processing_class=WsiImageProcessor()).train()
    assert model.config.calibration is None
