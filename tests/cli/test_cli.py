"""The command line."""

import json

import pytest

from tests.inference.conftest import noise, tiny_model
from tests.inference.test_damage import corrupt
from wsi_hf import WsiImageProcessor
from wsi_hf.cli import main
from wsi_hf.slides.pyramid import write_pyramid


@pytest.fixture
def model_folder(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    WsiImageProcessor().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def segment(*arguments) -> int:
    return main(["segment", *map(str, arguments), "--device", "cpu", "--whole-slide"])


def test_segment_writes_everything_and_says_so(model_folder, tmp_path, capsys):
    slide = write_pyramid(tmp_path / "x.tif", noise(60, 80), 1.0)
    assert segment(slide, "--model", model_folder, "--out", tmp_path / "out") == 0
    said, table = capsys.readouterr().out.strip().splitlines()
    slide_id, label, score, lesions, folder, *_ = said.split("\t")
    assert (slide_id, folder) == ("x", str(tmp_path / "out" / "x"))
    assert lesions.split()[1] in ("lesion", "lesions")
    assert table == f"{tmp_path / 'out' / 'slides.csv'}\t1 slides"
    assert label in ("benign", "malignant")
    names = {path.name for path in (tmp_path / "out" / "x").iterdir()}
    maps = {"probabilities.zarr", "probabilities.ome.zarr", "probabilities.ome.tif"}
    assert names == maps | {"lesions.geojson", "overlay.png", "summary.json"}
    assert segment(slide, "--model", model_folder, "--out", tmp_path / "out", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["slide_id"], result["label"], f"{result['score']:.4f}") == ("x", label, score)


def test_a_slide_that_fails_or_is_damaged_shows_in_the_exit_code(model_folder, tmp_path, capsys):
    good = write_pyramid(tmp_path / "good.tif", noise(60, 80), 1.0)
    damaged = write_pyramid(tmp_path / "damaged.tif", noise(600, 600), 1.0, smallest=1000)
    corrupt(damaged, slice(0, 1))
    options = ("--model", model_folder, "--out", tmp_path / "out")
    assert segment(tmp_path / "missing.tif", good, *options) == 1
    assert "missing\tfailed\ngood\t" in capsys.readouterr().out
    assert segment(good, damaged, *options) == 1
    assert "1 spots not analysed" in capsys.readouterr().out
    assert segment(good, *options) == 0


def test_a_model_that_is_not_there_is_a_clear_error(tmp_path, caplog):
    assert segment(tmp_path / "x.tif", "--model", tmp_path / "nothing", "--out", tmp_path / "out") == 1
    assert "nothing" in caplog.text


def test_info_says_levels_mpp_tissue_and_cost(model_folder, synthetic_slide, capsys):
    assert main(["info", str(synthetic_slide), "--model", model_folder, "--device", "cpu"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["mpp_source"] == "openslide.mpp-x"
    assert info["levels"][0]["mpp"] == info["mpp"]
    assert 0 < info["tissue_share"] < 1
    assert info["estimated_seconds"] >= 0
    assert info["estimated_memory_mb"] > 0


def test_synthesize_writes_a_cohort(tmp_path, capsys):
    arguments = ["synthesize", str(tmp_path / "c"), "--n-train", "2", "--n-test", "2", "--size-um", "256"]
    assert main(arguments) == 0
    assert len(list((tmp_path / "c" / "images").glob("*.tif"))) == 4


def test_an_error_is_a_sentence_and_verbose_adds_where(tmp_path, caplog, capsys):
    command = ["evaluate", "--cohort", str(tmp_path / "none.csv"), "--model", "m", "--out", str(tmp_path / "out")]
    assert main(["--verbose", *command]) == 1
    said, where = caplog.records[-2:]
    assert "none.csv" in said.getMessage()
    assert "Errno" not in said.getMessage()
    assert where.exc_info
    assert main(["--quiet", *command]) == 1
    assert caplog.records[-1].getMessage() == said.getMessage()
    assert main(["evaluate", "--convention", "own", "--cohort", "x"]) == 2
    assert "Invalid value for '--convention'" in capsys.readouterr().err
    assert main(["--version"]) == 0
