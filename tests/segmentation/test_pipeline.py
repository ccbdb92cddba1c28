"""`pipeline("wsi-segmentation")`."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from types import GeneratorType

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

import wsi_hf
from tests.inference.conftest import noise, tiny_model
from wsi_hf import Slide, WsiImageProcessor
from wsi_hf.segmentation.pipeline import WsiSegmentationPipeline
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.pyramid import write_pyramid


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    WsiImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipe(model_folder):
    return pipeline("wsi-segmentation", model=str(model_folder), device="cpu")


@pytest.fixture
def slides(tmp_path):
    """A folder of three slides, the second of which is no slide."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for i, name in enumerate("ac"):
        write_pyramid(folder / f"{name}.tif", noise(70, 90, seed=i), 1.0)
    (folder / "b.tif").write_text("not a slide")
    return folder


def test_the_task_is_known_and_loads_model_and_processor(pipe):
    assert isinstance(pipe, WsiSegmentationPipeline)
    assert isinstance(pipe.image_processor, WsiImageProcessor)
    assert wsi_hf.WsiSegmentationPipeline is WsiSegmentationPipeline


def test_one_slide_gives_one_result(pipe, synthetic_slide):
    result = pipe(str(synthetic_slide))
    assert result["slide_id"] == "tumor_001"
    assert result["label"] in ("benign", "malignant")
    assert 0 < result["score"] < 1
    assert result["probability_map"].shape == Slide(synthetic_slide).size_px(1.0)[::-1]


def test_inputs_of_every_kind_give_the_same(pipe, tmp_path):
    pixels = noise(60, 80)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    inputs = [
        str(tmp_path / "x.png"),
        tmp_path / "x.png",
        Slide(tmp_path / "x.png", 1.0),
        Image.fromarray(pixels),
        pixels,
    ]
    results = pipe(inputs, mpp=1.0, tissue=None)
    assert isinstance(results, list)
    assert [r["slide_id"] for r in results] == ["x", "x", "x", "image_3", "image_4"]
    assert len({r["score"] for r in results}) == 1
    generator = pipe((item for item in inputs), mpp=1.0, tissue=None)
    assert isinstance(generator, GeneratorType)
    assert [r["score"] for r in generator] == [r["score"] for r in results]


def test_a_folder_gives_its_slides_by_name(pipe, slides):
    (slides / "b.tif").unlink()
    assert [r["slide_id"] for r in pipe(slides, tissue=None)] == ["a", "c"]


def test_a_bad_slide_is_reported_in_its_place_and_the_others_go_on(pipe, slides):
    a, b, c = pipe(slides, tissue=None, on_error="report")
    assert "b.tif" in b["error"]
    assert (a["slide_id"], b["slide_id"], c["slide_id"]) == ("a", "b", "c")
    assert c["label"] is not None
    with pytest.raises(SlideError, match=r"b\.tif"):
        pipe(slides, tissue=None)


def test_batch_size_workers_and_tile_size_change_nothing(pipe, slides):
    plain = pipe(slides / "a.tif", tissue=None)
    other = pipe(slides / "a.tif", tissue=None, batch_size=3, num_workers=4, tile_size=16)
    assert np.abs(plain["probability_map"][:] - other["probability_map"][:]).max() <= 1e-5


def test_dtype_is_honoured(model_folder, slides):
    half = pipeline("wsi-segmentation", model=str(model_folder), dtype=torch.bfloat16, device="cpu")
    result = half(slides / "a.tif", tissue=None)
    assert result["segmentation"].provenance["settings"]["dtype"] == "bfloat16"


def test_unknown_arguments_are_refused(pipe):
    with pytest.raises(TypeError, match="treshold"):
        pipe("x.tif", treshold=0.5)


def test_finished_slides_are_known_again_by_content(pipe, slides, tmp_path):
    out = tmp_path / "out"
    options = {"out": out, "tissue": None, "on_error": "report"}
    first = pipe(slides, **options)
    stamp = (out / "a" / "summary.json").stat().st_mtime_ns
    write_pyramid(slides / "b.tif", noise(50, 50), 1.0)
    second = pipe(slides, **options)
    assert (out / "a" / "summary.json").stat().st_mtime_ns == stamp
    assert second[0]["score"] == first[0]["score"]
    assert np.array_equal(second[0]["probability_map"][:], first[0]["probability_map"][:])
    assert "error" not in second[1]
    write_pyramid(slides / "a.tif", noise(71, 90), 1.0)
    assert "another slide of that name" in pipe(slides, **options)[0]["error"]


@pytest.mark.parametrize("change", [{"threshold": 0.9}, {"tissue": "auto"}])
def test_a_folder_of_another_run_is_refused(pipe, slides, tmp_path, change):
    out = tmp_path / "out"
    pipe(slides / "a.tif", out=out, tissue=None)
    with pytest.raises(ValueError, match=rf"belongs to another run .*{next(iter(change))}"):
        pipe(slides / "a.tif", out=out, **{"tissue": None, **change})
    assert (out / "a" / "summary.json").exists()


def test_a_folder_of_something_else_is_refused(pipe, slides, tmp_path):
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(ValueError, match="not empty"):
        pipe(slides / "a.tif", out=tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_stops_and_keeps_what_is_finished(pipe, slides, small_disk):
    out = small_disk / "out"
    write_pyramid(slides / "b.tif", noise(700, 700), 1.0)
    with pytest.raises(OSError, match="No space left") as stopped:
        pipe(slides, out=out, tissue=None, on_error="report")
    assert stopped.value.errno == errno.ENOSPC
    assert sorted(path.name for path in out.iterdir()) == ["a", "run.json", "slides.csv"]
    assert (out / "a" / "summary.json").exists()


def test_a_killed_run_leaves_nothing_half_and_goes_on(model_folder, tmp_path):
    slides, out = tmp_path / "slides", tmp_path / "out"
    slides.mkdir()
    write_pyramid(slides / "a.tif", noise(64, 64), 1.0)
    write_pyramid(slides / "b.tif", noise(3000, 3000), 1.0)
    command = [sys.executable, "-m", "wsi_hf.cli", "segment", str(slides), "--whole-slide", "--tile-size", "64"]
    command += ["--model", str(model_folder), "--out", str(out), "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 180
    while not list(out.glob(".b.*.part/probabilities.zarr/c/*/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "a" / "summary.json").exists()
    assert not (out / "b").exists()
    assert len(list(out.glob(".b.*.part"))) == 1
    write_pyramid(slides / "b.tif", noise(100, 100), 1.0)
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["a", "b", str(out / "slides.csv")]
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "run.json", "slides.csv"]
    assert json.loads((out / "b" / "summary.json").read_text())["slide_id"] == "b"
