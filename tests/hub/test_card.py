"""The card: valid for the Hub, true to the run, harmless whatever stands in the run's files."""

import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from wsi_hf.hub.card import escape, model_card
from wsi_hf.hub.push import push_run


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_each_figure_stands_in_the_model_index_with_n_and_interval(run):
    figures = json.loads((run / "metrics.json").read_text())
    card = ModelCard(str(model_card(run, "org/model", dataset="synthetic slides")))
    results = {result.metric_name.split(" (")[0]: result for result in card.data.eval_results}
    for name, shown in (("slide_auc", "slide ROC AUC"), ("dice", "pixel Dice at P = 0.5")):
        assert results[shown].metric_value == pytest.approx(figures[name]["value"], abs=1e-4)
        assert f"n = {figures[name]['n']} slides" in results[shown].metric_name
        assert results[shown].metric_args["ci95"] == figures[name]["ci95"]
        assert results[shown].dataset_name == "synthetic slides"
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-segmentation"


def test_the_hub_accepts_the_metadata(hub, run):
    push_run(run, "org/model")
    assert "POST /api/validate-yaml" in hub.calls
    ModelCard.load("org/model").validate()


def test_it_tells_what_was_trained_on_what_and_for_how_long(run):
    text = str(model_card(run, "org/model", dataset="my slides", dataset_license="cc-by-4.0"))
    assert "my slides. Licence of the data: cc-by-4.0" in text
    assert "| train | 4 | 4 |" in text
    assert "| judged (test) | 2 | 2 |" in text
    assert "| alpha | 2 | alpha = 2 |" in text
    assert "| beta_1 | 1 | beta = (0, 1) |" in text
    assert "| filters | 4 | 32 filters in the first layer |" in text
    assert "| optimiser steps | 4 |" in text
    assert re.search(r"\| time \| \d+ min \d+ s \|", text)
    assert "not a medical device" in text
    assert "@misc{pinchaud2024weakly" in text


def test_it_tells_what_the_training_started_from(run):
    assert "started from" not in str(model_card(run, "org/model"))
    config = json.loads((run / "config.json").read_text())
    config["initialized_from"] = {"name": "first", "architecture": "Net", "tensors": 9, "steps": 30, "seconds": 61.0}
    (run / "config.json").write_text(json.dumps(config))
    assert "| started from | 9 tensors of first (Net), 30 steps, 1 min 1 s |" in str(model_card(run, "org/model"))


def test_what_was_not_measured_is_said_not_to_be(run):
    (run / "metrics.json").unlink()
    (run / "training_args.json").unlink()
    (run / "training_summary.json").unlink()
    card = model_card(run, "org/model")
    assert "has not been evaluated" in str(card)
    assert "The publisher has not named the slides" in str(card)
    assert str(card).count("not recorded") == 1  # the compute; config.json still tells some hyper-parameters
    assert card.data.to_dict().get("model-index") is None


def test_an_undefined_figure_is_no_result(run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["slide_auc"] |= {"value": None, "ci95": None}
    (run / "metrics.json").write_text(json.dumps(metrics))
    card = model_card(run, "org/model")
    assert "| slide ROC AUC | undefined | none | 4 |" in str(card)
    assert not [result for result in card.data.eval_results if result.metric_name.startswith("slide ROC AUC (")]


def test_every_picture_that_it_shows_is_pushed(hub, run):
    push_run(run, "org/model")
    files = hub.repo("models", "org/model").files()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", files["README.md"].decode())
    assert sorted(pictures) == ["froc.png", "overlay.png", "reliability.png", "roc.png", "training.png"]
    assert set(pictures) <= set(files)


def test_an_auto_encoder_is_not_called_a_segmenter(run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"architectures": ["WsiUNetForReconstruction"]}))
    card = model_card(run, "org/model")
    assert "finds no tumour" in str(card)
    assert "pipeline(" not in str(card)
    assert card.data.pipeline_tag is None


HOSTILE = '<script>alert("x")</script> [click](javascript:x) | `rm`\n# Not a heading\n---\nlicense: mit'


def test_hostile_text_is_shown_and_not_obeyed(run):
    for name, change in {
        "config.json": {"id2label": {"0": HOSTILE, "1": "b"}, "architectures": [HOSTILE]},
        "training_args.json": {"optim": HOSTILE},
        "training_summary.json": {"device": HOSTILE, "dataset": HOSTILE, "slides": {HOSTILE: {"benign": HOSTILE}}},
        "metrics.json": {HOSTILE: {"value": 0.5, "n": HOSTILE, "ci95": None}},
        "preprocessor_config.json": {"mpp": HOSTILE},
    }.items():
        values = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(values | change))
    card = model_card(run, "org/model", license="apache-2.0")
    text = card.text
    assert "<script" not in text
    assert "](javascript" not in text
    assert "\n# Not a heading" not in text
    assert card.data.license == "apache-2.0"
    assert ModelCard(str(card)).data.license == "apache-2.0"


def test_escape_keeps_ordinary_words():
    assert escape("WsiUNet 32 filters, mpp 0.5 (um)") == "WsiUNet 32 filters, mpp 0.5 (um)"
    assert escape("<b>|`[") == "&lt;b&gt;&#124;&#96;&#91;"
