"""Pixels that are no plain 8-bit RGB, and files that claim what cannot be."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_hf.slides.formats.images import PixelError, image_of
from wsi_hf.slides.slide import Slide, SlideError
from wsi_hf.slides.tissue import find_tissue

STAIN = (180, 90, 160)
IMAGE = np.full((96, 128, 3), 243, np.uint8)
IMAGE[16:64, 32:96] = STAIN


def write_ome(path: Path, names: list[str] | None, **options) -> Path:
    facts = {"axes": "CYX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    facts |= {"Channel": {"Name": names}} if names else {}
    order = [("red", "green", "blue").index(name.lower()) for name in names] if names and "Red" in names else [0, 1, 2]
    planes = np.moveaxis(IMAGE, -1, 0)[order].copy()
    tifffile.imwrite(path, planes, photometric="minisblack", ome=True, metadata=facts, **options)
    return path


@pytest.mark.parametrize("options", [{"tile": (32, 32)}, {}, {"tile": (32, 32), "compression": "zlib"}], ids=str)
def test_an_ome_tiff_of_three_images_has_its_colours(tmp_path, options):
    slide = Slide(write_ome(tmp_path / "a.ome.tif", ["Blue", "Red", "Green"], **options))
    assert (slide.mpp, slide.mpp_source) == (0.25, "OME PhysicalSizeX")
    np.testing.assert_array_equal(slide.read_region_px((0, 0), (128, 96), 0.25), IMAGE)
    assert slide.read_region_px((-1, 95), (2, 2), 0.25)[..., 0].tolist() == [[255, 243], [255, 255]]


@pytest.mark.parametrize("names", [None, ["DAPI", "CD3", "CD8"]])
def test_three_images_that_are_not_named_as_colours_are_refused(tmp_path, names):
    with pytest.raises(SlideError, match=r"a\.ome\.tif: it holds 3 images of one channel each"):
        Slide(write_ome(tmp_path / "a.ome.tif", names), mpp=0.5)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize("options", [{"tile": (32, 32)}, {}], ids=["tiles", "strips"])
def test_a_tiff_of_other_than_8_bits_is_refused_by_name(tmp_path, kind, options):
    for name, pixels in (("rgb.tif", IMAGE), ("grey.tif", IMAGE[..., 0])):
        tifffile.imwrite(tmp_path / name, pixels.astype(kind), **options)
        with pytest.raises(SlideError, match=rf"{name}: its pixels are of type {np.dtype(kind)}"):
            Slide(tmp_path / name, mpp=0.5)


def test_a_png_of_16_bits_is_refused_and_exif_turns_an_image(tmp_path):
    Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    with pytest.raises(SlideError, match=r"deep\.png: its pixels are not of 8 bits"):
        Slide(tmp_path / "deep.png", mpp=0.5)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(IMAGE).save(tmp_path / "turned.png", exif=exif)
    slide = Slide(tmp_path / "turned.png", mpp=0.5)
    np.testing.assert_array_equal(slide.read_region_px((0, 0), (96, 128), 0.5), np.rot90(IMAGE, -1))


@pytest.mark.parametrize(
    "array",
    [IMAGE, np.moveaxis(IMAGE, -1, 0), IMAGE / 255.0, np.dstack([IMAGE, IMAGE[..., 0]]), (IMAGE / 255).astype("f4")],
    ids=["uint8", "channels first", "float", "RGBA", "float32"],
)
def test_arrays_of_one_meaning_are_taken(array):
    np.testing.assert_array_equal(np.asarray(image_of(array).convert("RGB")), IMAGE)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (IMAGE.astype(np.uint16) * 257, "uint16 is not of 8 bits"),
        (IMAGE.astype(float), r"has values in 0\.\.1"),
        (np.full((4, 4, 3), np.nan), r"has values in 0\.\.1"),
        (IMAGE[..., 0] > 200, "bool is not of 8 bits"),
        (np.zeros((0, 0, 3), np.uint8), "shape"),
        (np.zeros((5, 4, 2), np.uint8), "shape"),
    ],
)
def test_other_arrays_are_refused(array, message):
    with pytest.raises(PixelError, match=message):
        image_of(array)


def test_a_tile_that_claims_more_than_can_be_decoded_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, tile=(32, 32), photometric="rgb", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        for name in ("TileWidth", "TileLength"):
            place = tiff.pages[0].tags[name].valueoffset
            data[place : place + 4] = (65024).to_bytes(4, "little")
    (tmp_path / "lie.tif").write_bytes(data)
    with pytest.raises(SlideError, match=r"lie\.tif: a tile of it claims 65024 x 65024 pixels"):
        Slide(tmp_path / "lie.tif", mpp=0.5)


def test_a_slide_longer_than_any_glass_is_refused_by_name(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, tile=(32, 32), photometric="rgb", metadata=None)
    monkeypatch.setattr("wsi_hf.slides.slide.LARGEST_UM", 1000.0)
    with pytest.raises(SlideError, match=r"a\.tif would be 1 mm long \(128 x 96 pixels of 8 um, from argument\)"):
        Slide(tmp_path / "a.tif", mpp=8.0)


def test_the_tissue_of_a_huge_slide_is_found_in_coarser_cells(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE.repeat(4, 0).repeat(4, 1), tile=(64, 64), photometric="rgb")
    slide = Slide(tmp_path / "a.tif", mpp=2.0)
    fine = find_tissue(slide)
    monkeypatch.setattr("wsi_hf.slides.tissue.MOST_CELLS", fine.size // 4)
    monkeypatch.setattr("wsi_hf.slides.tissue.BAND_ROWS", 7)
    coarse = find_tissue(slide)
    assert coarse.shape == fine.shape == slide.size_px(8.0)[::-1]
    assert (coarse ^ fine).mean() < 0.15
    assert fine.mean() == pytest.approx(0.25, abs=0.05)


def test_mpp_of_the_caller_is_a_fallback_or_an_override(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, tile=(32, 32), photometric="rgb", resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    assert Slide(path, fallback_mpp=0.25).mpp == 0.5
    assert Slide(path, 0.3, fallback_mpp=0.25).mpp == 0.3
    Image.fromarray(IMAGE).save(tmp_path / "b.png")
    assert (Slide(tmp_path / "b.png", fallback_mpp=0.25).mpp_source) == "fallback"
