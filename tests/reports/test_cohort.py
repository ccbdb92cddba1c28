"""`wsi-hf evaluate` from slides to files: what it writes, how it goes on, how processes share it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.conftest import evaluate_arguments, save_model
from wsi_hf.cli import main
from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.evaluation.froc.detection_files import read_detection_folder
from wsi_hf.evaluation.froc.masks import mask_downsample, mask_from_xml
from wsi_hf.evaluation.froc.scoring import froc
from wsi_hf.reports.cohort import read_evaluation, read_records
from wsi_hf.slides.slide import Slide


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def as_many_threads() -> dict[str, str]:
    """The environment of a process with as many threads as this one: others round differently."""
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def record_times(out: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (out / "_evaluation").glob("[!.]*.npz")}


@pytest.fixture
def cohort(tiny_cohort: Path, tmp_path: Path) -> Path:
    """A copy of the session's cohort, to be changed."""
    return Path(shutil.copytree(tiny_cohort, tmp_path / "cohort"))


@pytest.fixture
def out(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of the session's evaluated folder, to go on with."""
    return Path(shutil.copytree(evaluated, tmp_path / "out"))


def test_all_files_are_written(evaluated):
    names = {path.name for path in evaluated.iterdir()}
    curves = {f"{name}.{suffix}" for name in ("roc", "froc") for suffix in ("png", "svg")}
    assert {"metrics.json", "slides.csv", "detections", "overlays.png", "report.html", *curves} <= names
    assert sorted(path.name for path in (evaluated / "detections").iterdir()) == [
        f"test_00{i}.csv" for i in range(1, 5)
    ]
    assert not list(evaluated.rglob("*.part"))


def test_every_figure_has_its_n_and_its_interval(evaluated):
    metrics = metrics_of(evaluated)
    assert {"slide_auc", "froc", "pixel_average_precision", "dice"} < set(metrics)
    for name, figure in metrics.items():
        if name not in ("cohort", "model", "decision"):
            assert figure["n"] in (2, 4), name
            assert {"value", "ci95"} <= set(figure), name
    assert (metrics["cohort"]["n"], metrics["cohort"]["split"]) == (4, "test")
    assert not metrics["decision"]["calibrated"]
    assert sum(metrics["decision"]["confusion"].values()) == 4
    assert metrics["cohort"]["failed"] == metrics["cohort"]["not_in_froc_and_pixels"] == {}
    assert sum(metrics["cohort"]["mpp_l0"].values()) == 4


def test_the_detection_files_give_a_reviewer_the_same_froc(evaluated, tiny_cohort):
    masks, mpp = {}, {}
    for row in load_cohort(tiny_cohort).filter(lambda row: row["split"] == "test"):
        slide = Slide(row["path"])
        mpp[row["slide_id"]] = slide.mpp
        downsample = mask_downsample(slide.mpp)
        masks[row["slide_id"]] = (
            mask_from_xml(row["annotation"], slide.dimensions_l0, downsample) if row["label"] else None
        )
    downsamples = {name: mask_downsample(value) for name, value in mpp.items()}
    detections = read_detection_folder(evaluated / "detections")
    result = froc(masks, detections, mpp=mpp, downsample=downsamples, include_itc=True)
    assert metrics_of(evaluated)["froc"]["value"] == pytest.approx(result.average)
    assert metrics_of(evaluated)["froc"]["n_lesions"] == result.n_lesions > 0


def test_slides_csv_has_the_worst_slide_first_and_its_error_is_one_minus_auc(evaluated):
    with open(evaluated / "slides.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    errors = [float(row["error"]) for row in rows]
    assert errors == sorted(errors, reverse=True)
    for label in ("benign", "malignant"):
        mean = np.mean([float(row["error"]) for row in rows if row["label"] == label])
        assert mean == pytest.approx(1 - metrics_of(evaluated)["slide_auc"]["value"])


def test_slides_are_ranked_by_margin_not_by_rounded_probability(evaluated):
    records = read_records(evaluated, ["test_001"])
    assert records["test_001"].margin == records["test_001"].detections[0, 0]


def test_a_second_run_judges_nothing_again(out, tiny_cohort, model_folder):
    before, metrics = record_times(out), metrics_of(out)
    assert main(evaluate_arguments(tiny_cohort, model_folder, out, "--include-itc")) == 0
    assert record_times(out) == before
    assert metrics_of(out) == metrics


def test_a_changed_slide_or_annotation_is_judged_again_and_no_other(out, cohort, model_folder):
    before = record_times(out)
    malignant = [row["slide_id"] for row in load_cohort(cohort) if row["label"] and row["split"] == "test"]
    annotation = cohort / f"annotations/{malignant[0]}.xml"
    annotation.write_text(annotation.read_text() + "\n")
    with open(cohort / f"images/{malignant[1]}.tif", "ab") as slide:
        slide.write(b"\0")
    assert main(evaluate_arguments(cohort, model_folder, out, "--include-itc")) == 0
    assert {name for name, when in record_times(out).items() if when != before[name]} == set(malignant)


def test_another_model_is_judged_anew(out, tiny_cohort, tmp_path):
    before = record_times(out)
    other = save_model(tmp_path / "other", seed=1)
    assert main(evaluate_arguments(tiny_cohort, other, out, "--include-itc")) == 0
    assert all(when != before[name] for name, when in record_times(out).items())


def test_other_rules_need_no_second_segmentation(out, tiny_cohort, model_folder):
    before = record_times(out)
    assert main(evaluate_arguments(tiny_cohort, model_folder, out, "--convention", "release")) == 0
    assert record_times(out) == before
    figure = metrics_of(out)["froc"]
    assert (figure["convention"], figure["include_itc"]) == ("release", False)
    assert read_evaluation(out).froc.convention == "release"


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path, tiny_cohort, model_folder):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "wsi_hf.cli", *evaluate_arguments(tiny_cohort, model_folder, killed)]
    process = subprocess.Popen([*command, "--split", "train"], stderr=subprocess.DEVNULL, env=as_many_threads())
    deadline = time.monotonic() + 120
    while not record_times(killed) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = record_times(killed)
    assert 0 < len(kept) < 8
    for folder in (killed, whole):
        assert main(evaluate_arguments(tiny_cohort, model_folder, folder, "--split", "train")) == 0
    assert {name: when for name, when in record_times(killed).items() if name in kept} == kept
    assert metrics_of(killed) == metrics_of(whole)
    assert (killed / "slides.csv").read_text() == (whole / "slides.csv").read_text()


def test_two_processes_share_the_slides_and_agree_with_one(tmp_path, tiny_cohort, model_folder, evaluated):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    arguments = evaluate_arguments(tiny_cohort, model_folder, tmp_path / "two", "--include-itc")
    done = subprocess.run(
        [*launcher, "-m", "wsi_hf.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=as_many_threads(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert metrics_of(tmp_path / "two") == metrics_of(evaluated)
    assert (tmp_path / "two/slides.csv").read_text() == (evaluated / "slides.csv").read_text()
    assert done.stdout.count("report.html") == 1  # one process alone writes and tells


def test_one_bad_slide_is_reported_and_the_rest_goes_on(cohort, model_folder, tmp_path, caplog):
    (cohort / "images/test_001.tif").write_bytes(b"no slide")
    assert main(evaluate_arguments(cohort, model_folder, tmp_path / "out", "--include-itc")) == 1
    metrics = metrics_of(tmp_path / "out")
    assert list(metrics["cohort"]["failed"]) == ["test_001"]
    assert metrics["slide_auc"]["n"] == 3
    assert "test_001 is left out" in caplog.text
    assert "1 slides could not be judged" in (tmp_path / "out/report.html").read_text()


def test_a_slide_that_is_not_wholly_outlined_counts_for_the_auc_alone(cohort, model_folder, tmp_path):
    malignant = [row["slide_id"] for row in load_cohort(cohort) if row["label"] and row["split"] == "test"]
    (cohort / "synthetic.json").unlink()  # now its names are CAMELYON16's
    for folder, suffix in (("images", "tif"), ("annotations", "xml")):
        (cohort / folder / f"{malignant[0]}.{suffix}").rename(cohort / folder / f"test_114.{suffix}")
    (cohort / f"annotations/{malignant[1]}.xml").unlink()
    reference = cohort / "evaluation/reference.csv"
    reference.write_text(reference.read_text().replace(malignant[0], "test_114"))
    with pytest.warns(UserWarning, match="no slide has a lesion"):
        assert main(evaluate_arguments(cohort, model_folder, tmp_path / "out")) == 0
    metrics = metrics_of(tmp_path / "out")
    assert metrics["cohort"]["not_in_froc_and_pixels"] == {
        "test_114": "not exhaustively annotated",
        malignant[1]: "no annotation",
    }
    assert (metrics["slide_auc"]["n"], metrics["froc"]["n"], metrics["dice"]["n"]) == (4, 2, 2)
    assert metrics["froc"]["value"] is None


def test_wrong_calls_say_what_is_missing(tiny_cohort, model_folder, tmp_path, caplog):
    assert main(["evaluate", "--cohort", str(tiny_cohort)]) == 1
    assert "needs --model and --out, or --check" in caplog.text
    assert main(evaluate_arguments(tiny_cohort, model_folder, tmp_path, "--split", "validation")) == 1
    assert "has no validation slides" in caplog.text
    with pytest.raises(ValueError, match=r"holds no evaluation \(no metrics.json\); run wsi-hf evaluate first"):
        read_evaluation(tmp_path)
