"""Damaged and foreign files in an output folder, other frames, other ways to name slides."""

import json
import logging
import os

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from transformers.pipelines.pt_utils import KeyDataset

from tests.inference.conftest import noise
from wsi_hf import Slide, WsiImageProcessor, segment_slide
from wsi_hf.segmentation.pipeline import WsiSegmentationPipeline
from wsi_hf.segmentation.runs import SegmentationFolder
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.outlines.outline_files import read_outline
from wsi_hf.slides.pyramid import write_pyramid


@pytest.fixture
def path(tmp_path):
    return write_pyramid(tmp_path / "a.tif", noise(70, 90), 1.0)


def segmented(folder, network, path) -> dict:
    return SegmentationFolder(folder, network, tissue=None).segment(Slide(path), tile_size=64)


def spoil(folder, what: str) -> None:
    match what:
        case "summary is {}":
            (folder / "a/summary.json").write_text("{}")
        case "zarr.json is cut":
            (folder / "a/probabilities.zarr/zarr.json").write_text('{"shape": [')
        case "a file is missing":
            (folder / "a/probabilities.ome.tif").unlink()
        case "run.json is {}":
            (folder / "run.json").write_text("{}")
        case "run.json is of another version":
            run = json.loads((folder / "run.json").read_text())
            del run["settings"]["seams"]
            (folder / "run.json").write_text(json.dumps(run))


@pytest.mark.parametrize("what", ["summary is {}", "zarr.json is cut", "a file is missing"])
def test_a_damaged_result_is_computed_again_and_kept_aside(tmp_path, dark_network, path, what, caplog):
    segmented(tmp_path / "out", dark_network, path)
    spoil(tmp_path / "out", what)
    again = segmented(tmp_path / "out", dark_network, path)
    assert json.loads((tmp_path / "out/a/summary.json").read_text())["score"] == again["score"]
    assert (tmp_path / "out/a.damaged-1").is_dir()
    assert "a is segmented again" in caplog.text


@pytest.mark.parametrize("what", ["run.json is {}", "run.json is of another version"])
def test_a_foreign_run_file_does_not_end_the_run(tmp_path, dark_network, path, what, caplog):
    segmented(tmp_path / "out", dark_network, path)
    whole = (tmp_path / "out/run.json").read_text()
    spoil(tmp_path / "out", what)
    segmented(tmp_path / "out", dark_network, path)
    assert (tmp_path / "out/run.json").read_text() == whole
    assert "run.json" in caplog.text


def test_a_slide_replaced_after_it_was_segmented_is_not_taken_for_the_old_one(tmp_path, dark_network, path):
    segmented(tmp_path / "out", dark_network, path)
    os.replace(write_pyramid(tmp_path / "b.tif", noise(90, 90, seed=1), 1.0), path)
    with pytest.raises(SlideError, match="holds the results of another slide of that name"):
        segmented(tmp_path / "out", dark_network, path)
    (tmp_path / "A.tif").write_bytes(path.read_bytes())
    with pytest.raises(SlideError, match="differs from it in capitals alone"):
        segmented(tmp_path / "out", dark_network, tmp_path / "A.tif")


@pytest.mark.parametrize("name", ["..tif", "run.json.tif", "a:b.tif", f"{'x' * 240}.tif"])
def test_odd_names_have_a_folder_of_their_own(tmp_path, dark_network, path, name):
    other = path.with_name(name)
    path.rename(other)
    result = segmented(tmp_path / "out", dark_network, other)
    assert os.path.dirname(result["folder"]) == str(tmp_path / "out")
    assert segmented(tmp_path / "out", dark_network, other) == result | {"folder": result["folder"]}


def test_outlines_are_counted_as_qupath_does_where_a_slide_has_bounds(tmp_path, dark_network):
    pixels = np.full((200, 300, 3), 255, np.uint8)
    pixels[100:140, 200:260] = 0
    slide = Slide(write_pyramid(tmp_path / "a.tif", pixels, 1.0))
    slide.bounds_l0 = (50, 30, 250, 170)  # as of MIRAX and Leica
    folder = segment_slide(dark_network, slide, tissue=None, tile_size=64).save(tmp_path / "out")
    for name, frame, corner in (("lesions", "qupath", (150, 70)), ("lesions_level-0", "level-0", (200, 100))):
        written = json.loads((folder / f"{name}.geojson").read_text())
        assert written["frame"]["name"] == frame
        xy = np.array(written["features"][0]["geometry"]["coordinates"][0])
        assert xy.min(0).tolist() == list(corner)
        for feature in written["features"]:
            feature["properties"]["classification"]["name"] = "Tumor"
        (tmp_path / "tumor.geojson").write_text(json.dumps(written))
        assert read_outline(tmp_path / "tumor.geojson", (7, 7)).bounds == (200, 100, 260, 140)


@pytest.fixture(scope="module")
def pipe(model):
    return WsiSegmentationPipeline(model, image_processor=WsiImageProcessor(), device="cpu")


def test_columns_and_key_datasets_are_taken(pipe, path, tmp_path):
    slides = Dataset.from_dict({"path": [str(path), str(path)]})
    assert [result["slide_id"] for result in pipe(slides["path"])] == ["a", "a"]
    assert [result["slide_id"] for result in pipe(KeyDataset(slides, "path"))] == ["a", "a"]


def test_an_image_that_cannot_be_taken_is_reported_and_the_others_go_on(pipe, path):
    bad = np.zeros((8, 8, 3), np.uint16)
    results = pipe([bad, noise(40, 40) / 255.0, str(path)], mpp=1.0, on_error="report")
    assert ["error" in result for result in results] == [True, False, False]
    assert "image_0: an image of type uint16" in results[0]["error"]


def test_mpp_is_for_slides_that_do_not_say_and_a_coarse_slide_is_warned_of(pipe, path, tmp_path, caplog):
    Image.fromarray(noise(40, 40)).save(tmp_path / "b.png")
    given = [pipe(str(slide), mpp=2.0)["segmentation"].slide.mpp for slide in (path, tmp_path / "b.png")]
    assert given == [1.0, 2.0]
    with caplog.at_level(logging.WARNING):
        result = pipe(str(path), override_mpp=4.0)
    assert result["segmentation"].slide.mpp == 4.0
    assert "a is scanned at 4 um/px, and the model works at 1" in caplog.text
    assert any("enlarged 4.0 times" in warning for warning in result["warnings"])


def test_a_table_of_results_runs_no_formula(tmp_path, dark_network, path):
    folder = SegmentationFolder(tmp_path / "out", dark_network, tissue=None)
    folder.note({"slide_id": "=1+1", "label": "benign", "warnings": ["@x"]})
    assert "'=1+1,benign" in (tmp_path / "out/slides.csv").read_text()
    assert "'@x" in (tmp_path / "out/slides.csv").read_text()
