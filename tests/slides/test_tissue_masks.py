"""Tissue masks of one's own: images, GrandQC's, GeoJSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import box, mapping

from wsi_hf.inference.tissue import tissue_mask
from wsi_hf.slides.pyramid import write_pyramid
from wsi_hf.slides.slide import Slide, SlideError
from wsi_hf.slides.tissue_masks import read_tissue

LEFT = np.zeros((3, 4), bool)
LEFT[:, :2] = True


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Slide:
    """400 x 300 pixels of 8 um, all glass."""
    folder = tmp_path_factory.mktemp("masked")
    return Slide(write_pyramid(folder / "case 1.tif", np.full((300, 400, 3), 250, np.uint8), 8.0))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("case 1.png", LEFT * 255),
        ("case 1.tif", LEFT * 1),
        ("case 1_MASK.png", 1 - LEFT),  # GrandQC: 0 is tissue, 1 is background
        ("case 1.tif_MASK.png", 1 - LEFT),
        ("case 1_mask.png", np.where(LEFT, 1, [[7, 7, 4, 2]])),  # GrandQC: 1 is clean tissue, 4 is pen
        ("case 1.tif_mask.png", np.where(LEFT, 255, 0)),
    ],
)
def test_masks_are_found_by_name_and_read_by_their_values(tmp_path, slide, name, values):
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / name)
    for where in (tmp_path, tmp_path / name):
        np.testing.assert_array_equal(read_tissue(where, slide), LEFT)
        np.testing.assert_array_equal(tissue_mask(slide, str(where)), LEFT)


def test_outlines_are_tissue_but_for_what_is_called_otherwise(tmp_path, slide):
    features = [
        {"type": "Feature", "geometry": mapping(area), "properties": {"classification": {"name": name}} if name else {}}
        for name, area in (
            (None, box(0, 0, 200, 300)),
            ("Stroma", box(200, 0, 300, 300)),
            ("Ignore*", box(0, 0, 100, 300)),
        )
    ]
    (tmp_path / "case 1.geojson").write_text(json.dumps(features))
    mask = read_tissue(tmp_path, slide)
    assert (mask.shape, mask[:, 100:300].all(), mask[:, :100].any(), mask[:, 300:].any()) == (
        (300, 400),
        True,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("case 1.png", np.ones((4, 4)), r"4 x 4 pixels, which is not the shape of 400 x 300"),
        ("case 1.png", np.arange(36).reshape(3, 4, 3), "is a picture in colours"),
        ("other.png", LEFT, r"case 1: no tissue mask in .* \(such as case 1\.png"),
    ],
)
def test_what_cannot_be_the_slides_mask_is_refused_by_name(tmp_path: Path, slide, name, values, message):
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / name)
    with pytest.raises(SlideError, match=message):
        read_tissue(tmp_path, slide)
    (tmp_path / "case 1.png").write_text("no image")
    with pytest.raises(SlideError, match=r"case 1: its tissue mask cannot be used: .*case 1\.png is not an image"):
        read_tissue(tmp_path, slide)
