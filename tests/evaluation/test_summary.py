import json

import numpy as np
import pytest

from wsi_hf.evaluation.estimates import Estimate
from wsi_hf.evaluation.froc.interval import froc_interval
from wsi_hf.evaluation.froc.scoring import froc
from wsi_hf.evaluation.pixel import PixelScores
from wsi_hf.evaluation.roc import roc_auc
from wsi_hf.evaluation.summary import metrics, write_metrics

MASK = np.zeros((40, 60), np.uint8)
MASK[10:30, 10:55] = 1


def figures(with_band=False):
    pixels = PixelScores()
    for i in range(3):
        band = np.zeros((4, 4), bool)
        band[0] = with_band
        pixels.add(f"s{i}", np.full((4, 4), 0.3 * i), np.eye(4, dtype=bool) & (i > 0), band)
    found = froc({"a": MASK, "b": None}, {"a": [(0.9, 600, 500), (0.3, 0, 0)], "b": []})
    return metrics(roc_auc([0, 0, 1, 1], [1, 2, 3, 4], 20), found, froc_interval(found, 20), pixels.result(20))


def test_every_figure_has_a_value_an_interval_and_an_n():
    reported = figures()
    assert list(reported) == ["slide_auc", "froc", "pixel_average_precision", "dice", "dice_malignant"]
    for figure in reported.values():
        assert isinstance(figure["value"], float)
        assert len(figure["ci95"]) == 2
        assert isinstance(figure["n"], int)
    assert reported["froc"]["n_lesions"] == 1
    assert reported["froc"]["sensitivity_at"]["0.25"] == 1.0


def test_figures_outside_the_outlines_band_stand_beside_the_others():
    reported = figures(with_band=True)
    assert reported["dice_outside_band"]["n_pixels"] == 3 * 12
    assert reported["dice"]["n_pixels"] == 3 * 16


def test_metrics_are_written_as_strict_json(tmp_path):
    reported = figures() | {"nothing": Estimate(float("nan"), (0.0, float("nan")), 0).to_json()}
    write_metrics(reported, tmp_path / "metrics.json")
    read = json.loads((tmp_path / "metrics.json").read_text())
    assert read["nothing"] == {"value": None, "ci95": [0.0, None], "n": 0}
    assert read["slide_auc"]["value"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_an_estimate_prints_with_its_interval_and_n():
    assert str(Estimate(0.5, (0.4, 0.61), 129)) == "0.500 (0.400-0.610), n = 129"
    assert str(Estimate(0.5, None, 3)) == "0.500, n = 3"
    assert Estimate(0.5, None, 3, {"n_lesions": 2}).to_json() == pytest.approx(
        {"value": 0.5, "ci95": None, "n": 3, "n_lesions": 2}
    )
