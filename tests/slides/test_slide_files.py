"""Where the mpp comes from, bad files, and handles shared by threads and processes."""

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_hf.slides.formats.mpp import find_mpp
from wsi_hf.slides.handles import configure_handles, pool
from wsi_hf.slides.slide import Slide, SlideError


def write_tiff(path: Path, **resolution: object) -> Path:
    tifffile.imwrite(path, np.full((64, 64, 3), 200, np.uint8), tile=(32, 32), photometric="rgb", **resolution)
    return path


def read(slide: Slide) -> np.ndarray:
    return slide.read_region_px((10, 10), (100, 90), 1.0)


def test_mpp_is_taken_from_the_argument_before_the_file(synthetic_slide):
    assert Slide(synthetic_slide).mpp_source == "openslide.mpp-x"
    slide = Slide(synthetic_slide, mpp=0.3)
    assert (slide.mpp, slide.mpp_source) == (0.3, "argument")


def test_mpp_is_taken_from_a_resolution_in_inches(tmp_path):
    slide = Slide(write_tiff(tmp_path / "a.tif", resolution=(101600, 101600), resolutionunit="INCH"))
    assert slide.mpp == pytest.approx(0.25)


def test_mpp_is_looked_for_in_the_documented_order():
    tiff = {"tiff.ResolutionUnit": "centimeter", "tiff.XResolution": "40000", "tiff.YResolution": "40000"}
    own = {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5"}
    assert find_mpp("a.svs", tiff, None) == (0.25, "tiff.XResolution")
    assert find_mpp("a.svs", {**tiff, **own}, None) == (0.5, "openslide.mpp-x")
    assert find_mpp("a.svs", {**tiff, **own}, 0.3) == (0.3, "argument")
    for useless in ({"openslide.objective-power": "40"}, {**tiff, "tiff.ResolutionUnit": "none"}):
        with pytest.raises(ValueError, match="no mpp"):
            find_mpp("a.svs", useless, None)


def test_a_slide_without_mpp_names_itself_and_the_way_out(tmp_path):
    with pytest.raises(ValueError, match=r"a\.tif has no mpp in its metadata; pass mpp="):
        Slide(write_tiff(tmp_path / "a.tif"))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png", dpi=(300, 300))
    with pytest.raises(ValueError, match=r"b\.png has no mpp"):
        Slide(tmp_path / "b.png")


@pytest.mark.parametrize("per_cm", [1e4 / 0.04, 1e4 / 21, 28.3])
def test_an_implausible_mpp_is_refused(tmp_path, per_cm):
    path = write_tiff(tmp_path / "a.tif", resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")
    with pytest.raises(ValueError, match=r"a\.tif has an implausible mpp of .* pass mpp="):
        Slide(path)
    assert Slide(path, mpp=0.5).mpp == 0.5


@pytest.mark.parametrize("mpp", [0, -1, 0.01, float("nan"), float("inf")])
def test_an_implausible_argument_is_refused_too(synthetic_slide, mpp):
    with pytest.raises(ValueError, match="implausible"):
        Slide(synthetic_slide, mpp=mpp)


def test_pixels_must_be_square(tmp_path):
    near = Slide(write_tiff(tmp_path / "a.tif", resolution=(40000, 40400), resolutionunit="CENTIMETER"))
    assert near.mpp == pytest.approx((0.25 + 1e4 / 40400) / 2)
    with pytest.raises(ValueError, match="not square"):
        Slide(write_tiff(tmp_path / "b.tif", resolution=(40000, 44000), resolutionunit="CENTIMETER"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SlideError, match=r"gone\.tif: there is no such file"):
        Slide(tmp_path / "gone.tif")


def test_a_file_that_is_no_slide_is_named(tmp_path):
    (tmp_path / "notes.tif").write_text("not an image")
    with pytest.raises(SlideError, match=r"notes\.tif: not a slide"):
        Slide(tmp_path / "notes.tif")


def test_a_folder_that_is_no_slide_is_named(tmp_path):
    with pytest.raises(SlideError, match="a folder without DICOM files"):
        Slide(tmp_path)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs a user of lesser rights")
def test_a_file_without_permission_is_named(tmp_path, synthetic_slide):
    path = tmp_path / "secret.tif"
    path.write_bytes(synthetic_slide.read_bytes())
    path.chmod(0)
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("fork"), initializer=become_nobody) as process,
        pytest.raises(SlideError, match=r"secret\.tif: no permission to read it"),
    ):
        process.submit(Slide, path).result()


def become_nobody() -> None:
    if os.geteuid() == 0:  # who may read everything
        os.setuid(65534)


@pytest.mark.parametrize(
    ("name", "compression", "description", "source"),
    [
        ("aperio.svs", "jpeg", "Aperio Image Library v11|AppMag = 40|MPP = 0.25", "openslide.mpp-x"),
        ("aperio_2000.svs", "aperio_jp2000_rgb", "Aperio Image Library v11|AppMag = 40|MPP = 0.25", "openslide.mpp-x"),
        ("generic.tif", "deflate", None, "argument"),
    ],
)
def test_formats_give_the_same_pixels(tmp_path, name, compression, description, source):
    image = np.full((300, 400, 3), 220, np.uint8)
    image[100:200, 100:200] = (160, 60, 140)
    options = {"tile": (256, 256), "photometric": "rgb", "metadata": None, "description": description}
    tifffile.imwrite(tmp_path / name, image, compression=compression, **options)
    slide = Slide(tmp_path / name, None if description else 0.25)
    assert (slide.mpp, slide.mpp_source) == (0.25, source)
    region = slide.read_region_px((0, 0), (400, 300), 0.25).astype(int)
    assert np.abs(region - image).mean() < 2


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_a_truncated_slide_is_named_when_opened_or_read(tmp_path, synthetic_slide, share):
    whole = synthetic_slide.read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SlideError, match=r"cut\.tif"):
        Slide(path).read_region_px((0, 0), (256, 256), 0.5)


def test_a_slide_can_be_read_again_after_a_failed_read(tmp_path, synthetic_slide):
    whole = synthetic_slide.read_bytes()
    with tifffile.TiffFile(synthetic_slide) as tif:
        offsets, counts = tif.pages[0].dataoffsets, tif.pages[0].databytecounts
    broken = bytearray(whole)
    middle = len(offsets) // 2
    broken[offsets[middle] : offsets[middle] + counts[middle]] = bytes(counts[middle])
    path = tmp_path / "broken.tif"
    path.write_bytes(broken)
    slide = Slide(path)
    size = slide.dimensions_l0
    with pytest.raises(SlideError, match=r"broken\.tif: reading .* of level 0"):
        slide.read_region_px((0, 0), size, slide.mpp)
    assert slide.read_region_px((0, 0), (64, 64), slide.mpp).shape == (64, 64, 3)  # an undamaged place
    path.write_bytes(whole)
    np.testing.assert_array_equal(
        slide.read_region_px((0, 0), size, slide.mpp), Slide(synthetic_slide).read_region_px((0, 0), size, slide.mpp)
    )


def test_a_slide_is_pickled_without_its_handle(synthetic_slide):
    slide = Slide(synthetic_slide, mpp=0.5)
    data = pickle.dumps(slide)
    assert len(data) < 2000
    np.testing.assert_array_equal(read(pickle.loads(data)), read(slide))


def test_a_closed_slide_opens_again(synthetic_slide):
    with Slide(synthetic_slide) as slide:
        before = read(slide)
    assert synthetic_slide not in pool()._open
    np.testing.assert_array_equal(read(slide), before)


def test_threads_share_a_slide(synthetic_slide):
    slide = Slide(synthetic_slide)
    with ThreadPoolExecutor(4) as threads:
        regions = list(threads.map(lambda _: read(slide), range(40)))
    assert all((region == regions[0]).all() for region in regions)


@pytest.mark.parametrize("method", [m for m in ("fork",) if m in multiprocessing.get_all_start_methods()])
def test_a_forked_child_opens_files_of_its_own(synthetic_slide, method):
    slide = Slide(synthetic_slide)
    ours = read(slide)
    assert len(pool()) > 0
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as processes:
        assert processes.submit(count_handles).result() == 0
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as processes:
        for region in processes.map(read, [slide] * 8):
            np.testing.assert_array_equal(region, ours)


def count_handles() -> int:
    return len(pool())


def test_no_more_files_stay_open_than_allowed(tiny_cohort):
    slides = [Slide(path) for path in sorted((tiny_cohort / "images").glob("*.tif"))]
    configure_handles(max_open=2, cache_bytes=2**20)
    try:
        first = [read(slide) for slide in slides]
        assert len(pool()) == 2
        np.testing.assert_array_equal(first, [read(slide) for slide in slides])
    finally:
        configure_handles()
