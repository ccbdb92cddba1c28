"""The `evaluate` modules, loaded from their folder without a network and from the class."""

import importlib.util
import json
import runpy
from pathlib import Path

import evaluate
import numpy as np
import pytest

import wsi_hf.evaluation.metrics
from wsi_hf.evaluation.froc.scoring import froc
from wsi_hf.evaluation.metrics.froc.froc import Froc
from wsi_hf.evaluation.metrics.slide_auc.slide_auc import SlideAuc
from wsi_hf.evaluation.roc import roc_auc

FOLDER = Path(wsi_hf.evaluation.metrics.__file__).parent
MASK = np.zeros((40, 60), np.uint8)
MASK[10:30, 10:55] = 1
DETECTIONS = [(0.9, 600, 500), (0.5, 40, 40)]


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


def loaded(name, from_folder, cache):
    if from_folder:
        return evaluate.load(str(FOLDER / name), cache_dir=str(cache))
    return {"froc": Froc, "slide_auc": SlideAuc}[name](cache_dir=str(cache))


@pytest.mark.parametrize("from_folder", [True, False])
def test_froc_gives_what_the_function_gives(from_folder, tmp_path):
    metric = loaded("froc", from_folder, tmp_path)
    figures = metric.compute(predictions=[DETECTIONS, [(0.7, 5, 5)], []], references=[MASK, [], []], n_resamples=50)
    expected = froc({"a": MASK, "b": None, "c": None}, {"a": DETECTIONS, "b": [(0.7, 5, 5)], "c": []})
    assert figures["froc"] == pytest.approx(expected.average)
    assert (figures["n"], figures["n_lesions"], figures["convention"]) == (3, 1, "challenge")
    assert list(figures["sensitivity_at"]) == ["0.25", "0.5", "1", "2", "4", "8"]
    json.dumps(figures, allow_nan=False)


def test_froc_takes_slides_one_at_a_time_and_pixel_sizes_of_their_own(tmp_path):
    metric = loaded("froc", True, tmp_path)
    metric.add(prediction=[(0.9, 300, 250)], reference=MASK)
    metric.add(prediction=[(0.7, 5, 5), (0.1, 6, 6)], reference=[])
    figures = metric.compute(mpp=[0.486, 0.454], downsample=[16.0, 17.128], n_resamples=0, convention="release")
    assert figures["froc"] == 1.0
    assert figures["ci95"] is None


@pytest.mark.parametrize("from_folder", [True, False])
def test_slide_auc_gives_what_the_function_gives(from_folder, tmp_path):
    labels, scores = [0, 0, 1, 1, 0], [-3.1, 2.4, 7.9, 2.2, 0.0]
    figures = loaded("slide_auc", from_folder, tmp_path).compute(predictions=scores, references=labels)
    expected = roc_auc(labels, scores)
    assert figures["slide_auc"] == expected.auc
    assert figures["ci95"] == list(expected.ci95)
    assert figures["ci95_delong"] == list(expected.ci95_delong)
    assert (figures["n"], figures["n_malignant"]) == (5, 2)


@pytest.mark.parametrize("name", ["froc", "slide_auc"])
def test_each_folder_is_ready_to_be_a_space(name):
    files = {path.name for path in (FOLDER / name).iterdir()}
    assert {f"{name}.py", "README.md", "app.py", "requirements.txt"} <= files
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "sdk: gradio" in card


@pytest.mark.parametrize("name", ["froc", "slide_auc"])
def test_the_page_of_a_space_gets_as_far_as_gradio(name, monkeypatch):
    app = FOLDER / name / "app.py"
    runpy.run_path(str(app), run_name="app")  # imported, it starts nothing
    if importlib.util.find_spec("gradio") is None:
        monkeypatch.chdir(app.parent)
        with pytest.raises(ImportError, match="gradio"):
            runpy.run_path(str(app), run_name="__main__")
