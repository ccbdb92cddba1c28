"""Reading at a target mpp: places, seams, borders."""

from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from wsi_hf.slides.pyramid import write_pyramid
from wsi_hf.slides.slide import Slide


def texture(height: int, width: int) -> np.ndarray:
    """Sharp and blunt detail of every size, no two places alike; uint8 (H, W, 3)."""
    rng = np.random.default_rng(0)
    image = np.zeros((height, width, 3))
    for size in (1, 3, 17):
        cells = rng.integers(0, 256, (height // size + 1, width // size + 1, 3))
        image += cells.repeat(size, 0).repeat(size, 1)[:height, :width]
    return (image / 3).astype(np.uint8)


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """512 x 640 pixels at 0.486 um, downsamples 1, 2, 4."""
    image = texture(640, 512)
    return Slide(write_pyramid(tmp_path_factory.mktemp("even") / "even.tif", image, 0.486, smallest=128))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """1003 x 1101 pixels at 0.25 um: downsamples that are not whole numbers."""
    image = texture(1101, 1003)
    return Slide(write_pyramid(tmp_path_factory.mktemp("odd") / "odd.tif", image, 0.25, smallest=128))


@pytest.mark.parametrize("mpp", [0.3, 0.486, 0.7, 1.0, 2.3])
def test_tiles_join_without_a_seam(even, mpp):
    assert_tiles_join(even, mpp)


@pytest.mark.parametrize("mpp", [0.5, 0.6, 1.0])
def test_tiles_join_without_a_seam_where_downsamples_are_not_whole_numbers(odd, mpp):
    assert odd.level_downsamples[1] % 1 != 0
    assert_tiles_join(odd, mpp)


def assert_tiles_join(slide: Slide, mpp: float) -> None:
    width, height = slide.size_px(mpp)
    left, top, right, bottom = -5, -7, width + 9, height + 3  # beyond the slide on every side
    whole = slide.read_region_px((left, top), (right - left, bottom - top), mpp).astype(int)
    tiles = np.empty_like(whole)
    for y in range(top, bottom, 61):
        for x in range(left, right, 67):
            size = min(67, right - x), min(61, bottom - y)
            tiles[y - top :, x - left :][: size[1], : size[0]] = slide.read_region_px((x, y), size, mpp)
    np.testing.assert_array_equal(tiles, whole)


@pytest.mark.parametrize("mpp", [0.9, 3.0, 30.0])
def test_tiles_join_without_a_seam_where_there_is_no_level_near(tmp_path, mpp):
    assert_tiles_join(Slide(write_pyramid(tmp_path / "flat.tif", texture(1501, 1403), 0.25, smallest=2000)), mpp)


def test_resampling_in_blocks_is_one_resize_of_the_whole_image(tmp_path):
    image = Image.fromarray(texture(1100, 900))
    image.save(tmp_path / "whole.png")
    slide, shrink = Slide(tmp_path / "whole.png", 0.499), 1 / 0.499
    whole = image.resize((400, 500), Image.Resampling.BICUBIC, box=(0, 0, 400 * shrink, 500 * shrink))
    difference = np.abs(slide.read_region_px((0, 0), (400, 500), 1.0).astype(int) - np.asarray(whole))
    assert difference[2:, 2:].max() <= 4  # beyond the border a slide is white
    assert difference[2:, 2:].mean() < 0.5


def test_a_levels_own_mpp_gives_the_levels_own_pixels(even):
    ours = even.read_region_px((30, 40), (100, 50), 2 * 0.486)
    with openslide.OpenSlide(str(even.path)) as slide:
        theirs = slide.read_region((60, 80), 1, (100, 50)).convert("RGB")
    np.testing.assert_array_equal(ours, np.asarray(theirs))


@pytest.mark.parametrize(("name", "mpp"), [("even", 1.0), ("even", 0.6), ("odd", 0.5), ("odd", 1.3)])
def test_a_mark_lands_where_it_belongs(name, mpp, tmp_path):
    size, own = ((640, 512), 0.486) if name == "even" else ((1101, 1003), 0.25)
    image = np.full((*size, 3), 255, np.uint8)
    image[400:440, 300:340] = 0  # centre (320, 420) in level-0 pixels
    slide = Slide(write_pyramid(tmp_path / "mark.tif", image, own, smallest=128))
    ink = 255.0 - slide.read_region_px((0, 0), slide.size_px(mpp), mpp)[..., 1]
    y, x = (np.arange(n) + 0.5 for n in ink.shape)
    center_l0 = np.array([(ink.sum(0) @ x), (ink.sum(1) @ y)]) / ink.sum() * mpp / own
    np.testing.assert_allclose(center_l0, (320, 420), atol=0.5)


def test_shrinking_averages_and_does_not_alias(tmp_path):
    board = np.indices((256, 256)).sum(0) % 2 * 255
    slide = Slide(write_pyramid(tmp_path / "board.tif", np.stack([board] * 3, 2).astype(np.uint8), 0.25, quality=100))
    inside = slide.read_region_px((10, 10), (30, 30), 1.1)
    assert np.abs(inside.astype(int) - 127).max() <= 4


def test_outside_the_slide_all_is_white(even):
    width, height = even.size_px(1.0)
    for origin in ((-50, 0), (0, -50), (width + 5, 0), (0, height + 5), (-500, -500), (10**6, 10**6)):
        assert (even.read_region_px(origin, (40, 40), 1.0) == 255).all()
    corner = even.read_region_px((-20, -20), (40, 40), 2 * 0.486)
    assert (corner[:20] == 255).all()
    assert (corner[:, :20] == 255).all()
    np.testing.assert_array_equal(corner[20:, 20:], even.read_region_px((0, 0), (20, 20), 2 * 0.486))


def test_a_patch_keeps_its_centre_at_the_border(even):
    patch = even.read_patch((0, 0), 64, 1.0)
    assert patch.shape == (64, 64, 3)
    assert patch.dtype == np.uint8
    assert (patch[:30] == 255).all()
    np.testing.assert_array_equal(patch, even.read_region_px((-32, -32), (64, 64), 1.0))


def test_a_patch_is_centred_on_the_pixel_that_holds_the_point(even):
    ratio = 1.0 / 0.486  # level-0 pixels a pixel; the point is the centre of pixel (x, y) = (100, 70)
    patch = even.read_patch((100.5 * ratio, 70.5 * ratio), 32, 1.0)
    np.testing.assert_array_equal(patch, even.read_region_px((84, 54), (32, 32), 1.0))


def test_the_grid_covers_the_whole_slide(even, odd):
    assert even.size_px(0.486) == (512, 640)
    assert even.size_px(0.972) == (256, 320)
    assert even.size_px(1.0) == (249, 312)  # 248.8, 311.04
    assert odd.size_px(1.0) == (251, 276)  # 250.75, 275.25


def test_a_thumbnail_has_the_asked_size(even):
    assert even.thumbnail(100).shape == (100, 80, 3)
    assert even.thumbnail(10_000).shape == (640, 512, 3)


def test_reading_finer_than_the_scan_is_said_once(tmp_path, caplog):
    slide = Slide(write_pyramid(tmp_path / "coarse.tif", texture(64, 64), 2.0))
    for _ in range(2):
        assert slide.read_region_px((0, 0), (128, 128), 1.0).shape == (128, 128, 3)
    assert [record.message for record in caplog.records] == ["coarse is scanned at 2 um/px; reading it at 1 upsamples"]


def test_a_plain_image_is_a_slide_and_transparency_is_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    slide = Slide(tmp_path / "plain.png", mpp=0.5)
    region = slide.read_region_px((0, 0), (3, 2), 0.5)
    assert region.tolist() == [[[10, 20, 30], [255] * 3, [255] * 3], [[255] * 3] * 3]


def test_what_is_read_may_be_written_to(even):
    even.read_patch((50, 50), 8, 1.0)[:] = 0


def test_real_slides_open_with_their_mpp(shared: Path):
    small = shared / "data/slides/CMU-1-Small-Region.svs"
    dicom = shared / "data/slides/CMU-1-Small-Region_dicom"
    jpeg_2000 = shared / "data/slides/TCGA-CR-7395-01A-01-TS1.svs"
    for slide in (Slide(small), Slide(dicom), Slide(sorted(dicom.glob("*.dcm"))[0])):
        assert slide.mpp == 0.499
        assert slide.mpp_source == "openslide.mpp-x"
        assert slide.dimensions_l0 == (2220, 2967)
        assert slide.read_region_px((400, 900), (64, 64), 1.0).std() > 10
    assert Slide(dicom).slide_id == "CMU-1-Small-Region_dicom"
    assert_tiles_join_in_the_middle(Slide(jpeg_2000, mpp=0.25))


def assert_tiles_join_in_the_middle(slide: Slide) -> None:
    whole = slide.read_region_px((500, 400), (300, 200), 0.6).astype(int)
    right = slide.read_region_px((650, 400), (150, 200), 0.6)
    np.testing.assert_array_equal(whole[:, 150:], right)
