"""Bad input: contained where it can be, a clear error where not, and nothing finished is lost."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from wsi_hf import Slide, WsiUNetConfig, WsiUNetForSegmentation, segment_slide
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.segmentation.segmentation import stream_tiles
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.pyramid import write_pyramid

from .conftest import noise


def corrupt(path, tiles: slice = slice(None)):
    """Overwrite stored tiles of level 0 with zeros."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        spots = list(zip(page.dataoffsets, page.databytecounts, strict=True))[tiles]
    with open(path, "r+b") as file:
        for offset, size in spots:
            file.seek(offset)
            file.write(bytes(size))


@pytest.fixture
def damaged(tmp_path):
    """2048 x 1024 pixels at 1 um/px; the stored tile at (1024..1280, 256..512) is corrupt."""
    path = write_pyramid(tmp_path / "damaged.tif", noise(1024, 2048), 1.0, smallest=2048)
    corrupt(path, slice(8 + 4, 8 + 5))
    return path


def test_a_corrupt_tile_is_contained_reported_and_marked(damaged, model, tmp_path, caplog):
    whole_path = write_pyramid(tmp_path / "whole.tif", noise(1024, 2048), 1.0, smallest=2048)
    whole = segment_slide(model, whole_path, tissue=None).probabilities[:]
    result = segment_slide(model, damaged, tissue=None, tile_size=512)
    reach = model.config.margin  # what looks at the corrupt pixels
    rows, columns = slice(256 - reach, 512 + reach), slice(1024 - reach, 1280 + reach)
    assert (result.probabilities[rows, columns] == 0).all()
    expected = whole.copy()
    expected[rows, columns] = 0
    assert np.abs(result.probabilities[:] - expected).max() <= 1e-4
    assert result.tissue_area_um2 == pytest.approx((expected > 0).sum(), rel=1e-4)
    folder = result.save(tmp_path / "out")
    (spot,) = json.loads((folder / "summary.json").read_text())["not_analysed"]
    assert "damaged.tif" in spot["reason"]
    assert spot["bounds_l0"] == pytest.approx([1024 - reach, 256 - reach, 256 + 2 * reach, 256 + 2 * reach], abs=0.1)
    features = json.loads((folder / "lesions.geojson").read_text())["features"]
    assert [f["geometry"]["type"] for f in features if f["properties"]["classification"]["name"] == "not analysed"]
    hatched = np.asarray(Image.open(folder / "overlay.png"))[384, 1100:1200]
    assert (hatched == 128).all(axis=-1).any()


def test_a_corrupt_tile_does_not_depend_on_the_tiles(damaged, model):
    maps = [segment_slide(model, damaged, tissue=None, tile_size=size).probabilities[:] for size in (400, 4096)]
    assert np.abs(maps[0] - maps[1]).max() <= 1e-4


def test_in_training_a_corrupt_tile_raises(damaged, model):
    with pytest.raises(SlideError, match="damaged"):
        list(stream_tiles(model, Slide(damaged), tissue=None))


def test_a_slide_of_which_nothing_can_be_read_is_an_error(tmp_path, model):
    path = write_pyramid(tmp_path / "slide.tif", noise(200, 200), 1.0)
    corrupt(path)
    with pytest.raises(SlideError, match="nothing of it could be analysed"):
        segment_slide(model, path, tissue=None)


def test_a_truncated_slide_is_an_error_that_names_it(damaged, model):
    damaged.write_bytes(damaged.read_bytes()[:5000])
    with pytest.raises(SlideError, match=r"damaged.tif.*copy it again"):
        segment_slide(model, damaged)


def test_a_slide_without_mpp_names_the_way_out(tmp_path, model):
    Image.fromarray(noise(64, 64)).save(tmp_path / "plain.png")
    with pytest.raises(SlideError, match=r"plain.png has no mpp.*pass mpp="):
        segment_slide(model, tmp_path / "plain.png")
    assert segment_slide(model, tmp_path / "plain.png", mpp=0.5, tissue=None).probabilities.shape == (32, 32)


def test_weights_that_are_not_finite_are_refused(model):
    bad = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2))
    bad.classifier.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"not finite \(classifier.weight\)"):
        PixelNetwork(bad)


def test_logits_that_overflow_are_an_error(noise_slide):
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2)).eval()
    model.classifier.weight.data.fill_(3e38)
    model.classifier.bias.data.fill_(3e38)
    with pytest.raises(ValueError, match="bfloat16"):
        segment_slide(model, noise_slide(64, 64), tissue=None)


def test_a_model_of_other_classes_is_refused():
    class Config:
        id2label = dict.fromkeys(range(19), "road")

    with pytest.raises(ValueError, match="this one has 19"):
        PixelNetwork(type("Cityscapes", (), {"config": Config})())
