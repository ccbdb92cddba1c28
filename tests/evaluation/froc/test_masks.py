import numpy as np
import pytest
import shapely
import tifffile
from shapely import MultiPolygon, Polygon

from wsi_hf.evaluation.froc.masks import (
    mask_downsample,
    mask_from_polygons,
    mask_from_tiff,
    mask_from_xml,
    mask_scale,
    mask_shape,
)
from wsi_hf.evaluation.froc.polygon_mask import PolygonMask
from wsi_hf.slides.annotations import rasterize, write_asap

SQUARE_WITH_HOLE = Polygon(
    [(64, 32), (256, 32), (256, 160), (64, 160)], [[(128, 64), (192, 64), (192, 128), (128, 128)]]
)


def write_pyramid(path, mask, levels):
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            part = mask[:: 2**level, :: 2**level]
            tiff.write(part, tile=(16, 16), subifds=levels - 1 if level == 0 else None, subfiletype=int(level > 0))


def released_mask(tmp_path, value=2, levels=6):
    mask = np.ones((512, 768), np.uint8) if value == 2 else np.zeros((512, 768), np.uint8)
    mask[128:384, 256:512] = value
    write_pyramid(tmp_path / "test_001_mask.tif", mask, levels)
    return tmp_path / "test_001_mask.tif"


def test_a_released_mask_is_read_at_level_5_with_tumour_as_2(tmp_path):
    mask = mask_from_tiff(released_mask(tmp_path))
    expected = np.zeros((16, 24), np.uint8)
    expected[4:12, 8:16] = 1
    assert mask.tolist() == expected.tolist()


def test_other_codings_are_said_explicitly(tmp_path):
    assert mask_from_tiff(released_mask(tmp_path, 255), tumour_value=255).sum() == 64
    with pytest.raises(ValueError, match=r"test_001_mask.tif: the mask mixes the values"):
        mask_from_tiff(released_mask(tmp_path, 255))
    with pytest.raises(ValueError, match=r"test_001_mask.tif: the mask holds unknown values \[3\]"):
        mask_from_tiff(released_mask(tmp_path, 3))


def test_a_file_without_the_level_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"test_001_mask.tif has the levels \[0, 1, 2\], not level 5"):
        mask_from_tiff(released_mask(tmp_path, levels=3))


def test_masks_cover_the_whole_slide():
    assert mask_shape((64, 33)) == (2, 2)
    assert mask_shape((1000, 500), 17.128) == (30, 59)
    assert mask_downsample(0.243) == pytest.approx(32)
    assert mask_downsample(0.454) == pytest.approx(17.128, abs=1e-3)


def test_polygons_become_a_mask_with_their_holes():
    assert mask_from_polygons(MultiPolygon([SQUARE_WITH_HOLE]), (320, 192)).tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_an_annotation_file_becomes_the_mask_of_its_polygons(tmp_path):
    outline = Polygon([(64, 32), (256, 32), (256, 160), (64, 160)])
    write_asap(tmp_path / "tumor_001.xml", outline)
    mask = mask_from_xml(tmp_path / "tumor_001.xml", (320, 192))
    assert (mask.shape, int(mask.sum()), int(mask[1:5, 2:8].sum())) == ((6, 10), 24, 24)


@pytest.mark.parametrize("downsample", [4.0, 3.7])
def test_a_lazy_mask_is_the_whole_mask_wherever_it_is_read(downsample):
    blob = Polygon([(20, 30), (150, 10), (180, 90), (90, 60), (60, 170)])
    square = SQUARE_WITH_HOLE.buffer(0.3)
    polygons = MultiPolygon([square, *shapely.get_parts(blob.difference(square.buffer(2)))])
    shape = (50, 80)
    whole = rasterize(polygons, shape, downsample)
    lazy = PolygonMask(polygons, shape, downsample)
    assert whole.any()
    assert (lazy[0:50, 0:80] == whole).all()
    for rows, columns in [(slice(10, 23), slice(0, 80)), (slice(7, 8), slice(31, 64)), (slice(45, 99), slice(None))]:
        assert (lazy[rows, columns] == whole[rows, columns]).all()


def test_a_lazy_mask_of_nothing_is_empty():
    assert not PolygonMask(MultiPolygon(), (5, 5), 1.0)[1:4, 0:5].any()


def test_the_challenges_scanners_share_its_constant_and_others_its_pixel_size():
    assert mask_scale(0.243) == mask_scale(0.226) == (0.243, 32.0)
    mpp, downsample = mask_scale(0.5)
    assert (mpp, mpp * downsample) == (0.5, pytest.approx(7.776))
