"""Localisation judged patch by patch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.evaluation.conftest import evaluate_arguments
from tests.evaluation.test_results import record
from wsi_hf.cli import main
from wsi_hf.evaluation.froc.patches import PATCH_UM, Patches, cut_patches, patch_figures
from wsi_hf.evaluation.records import load_record


def slide(scores: list[float], shares: list[float]) -> Patches:
    return Patches(100.0, np.array(scores), np.array(shares))


def test_a_patch_is_512_pixels_at_5x():
    assert pytest.approx(512 * 8 * 0.243, abs=0.5) == PATCH_UM


def test_patches_have_a_mean_probability_and_a_share_of_tumour():
    probabilities = np.array([[1.0, 0.5, 0.2], [0.5, 0.0, 0.4], [0.0, 0.0, 0.8]], np.float32)
    truth = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]], bool)
    patches = cut_patches(probabilities, truth, mpp=2.0, side_um=4.4)  # 2 pixels
    assert patches.side_um == 4.0
    assert patches.score == pytest.approx([0.5, 0.3, 0.8])  # the one below left was not analysed
    assert patches.share.tolist() == [0.25, 0.0, 1.0]
    assert patches.tumour.tolist() == [True, False, True]


def test_tumour_that_was_not_analysed_is_missed_not_left_out():
    patches = cut_patches(np.zeros((2, 4)), np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool), 1.0, 2.0)
    assert (patches.score.tolist(), patches.share.tolist()) == ([0.0], [0.5])


def test_a_map_read_in_bands_has_the_same_patches(monkeypatch):
    rng = np.random.default_rng(0)
    probabilities, truth = rng.random((11, 7)), rng.random((11, 7)) < 0.3
    whole = cut_patches(probabilities, truth, 1.0, 3.0)
    monkeypatch.setattr(
        "wsi_hf.evaluation.froc.patches.row_blocks", lambda shape: [(slice(i, i + 1), slice(0, 7)) for i in range(11)]
    )
    banded = cut_patches(probabilities, truth, 1.0, 3.0)
    np.testing.assert_allclose(banded.score, whole.score)
    assert banded.share.tolist() == whole.share.tolist()


def test_auc_and_average_precision_are_scikit_learns_over_all_patches():
    rng = np.random.default_rng(1)
    slides = {
        f"s{i}": slide(np.round(rng.random(30), 1).tolist(), (rng.random(30) * (i % 2)).tolist()) for i in range(6)
    }
    score = np.concatenate([patches.score for patches in slides.values()])
    tumour = np.concatenate([patches.tumour for patches in slides.values()])
    figures = patch_figures(slides)
    assert figures["patch_auc"]["value"] == pytest.approx(roc_auc_score(tumour, score))
    assert figures["patch_average_precision"]["value"] == pytest.approx(average_precision_score(tumour, score))
    assert (figures["patch_auc"]["n"], figures["patch_auc"]["n_patches"]) == (6, 180)
    assert figures["patch_auc"]["ci95"][0] < figures["patch_auc"]["value"] < figures["patch_auc"]["ci95"][1]


def test_froc_counts_patches_as_lesions_and_false_positives_a_slide():
    slides = {"m": slide([0.9, 0.6, 0.2], [1.0, 0.3, 0.25]), "b": slide([0.7, 0.4, 0.1], [0.0, 0.0, 0.24])}
    # false positives a slide -> sensitivity: 0 -> 1/3 (0.9), 1/2 -> 1/3 (0.7), 1/2 -> 2/3 (0.6), 1 -> 2/3, 1 -> 1 (0.2)
    at = [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0]
    assert patch_figures(slides)["patch_froc"]["value"] == pytest.approx(np.mean(at))


def test_without_tumour_patches_the_figures_are_undefined():
    figures = patch_figures({"b": slide([0.7, 0.4], [0.0, 0.2])})
    assert {figure["value"] for figure in figures.values()} == {None}
    assert patch_figures({}) == {}


def test_records_keep_their_patches(tmp_path):
    made = replace(record("m", 1, 2.0), patches=slide([0.9, 0.1], [0.5, 0.0]))
    made.save(tmp_path / "m.npz", "key")
    read = load_record(tmp_path / "m.npz")
    assert read is not None
    assert read.patches is not None
    assert (read.patches.side_um, read.patches.score.tolist()) == (100.0, [0.9, 0.1])
    assert read.patches.tumour.tolist() == [True, False]


def test_an_evaluation_holds_patches_and_whose_labels_they_were(tmp_path: Path, tiny_cohort: Path, model_folder: Path):
    names = sorted(path.stem for path in (tiny_cohort / "images").glob("test_*.tif"))
    reference = dict(
        line.split(",")[:2] for line in (tiny_cohort / "evaluation/reference.csv").read_text().splitlines()
    )
    tumour = next(name for name in names if reference[name] == "Tumor")
    benign = next(name for name in names if reference[name] == "Normal")
    (tmp_path / "plus.csv").write_text(f"slide,label\n{tumour},micro\n{benign},negative\n")
    more = ("--labels", str(tmp_path / "plus.csv"), "--patch-um", "32", "--include-itc")
    assert main(evaluate_arguments(tiny_cohort, model_folder, tmp_path / "out", *more)) == 0
    figures = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (figures["cohort"]["n"], figures["cohort"]["dataset"]) == (2, "synthetic slides, labels of plus.csv")
    assert figures["patch_froc"]["n_tumour_patches"] > 0
    assert figures["patch_froc"]["n_patches"] <= 2 * 8 * 8
    assert figures["patch_auc"]["patch_um"] == 32.0
    assert "labels of plus.csv" in (tmp_path / "out/report.html").read_text()
