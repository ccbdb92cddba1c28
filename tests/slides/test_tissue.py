"""What counts as tissue and what does not."""

from pathlib import Path

import numpy as np
import pytest
from skimage.transform import resize

from wsi_hf.cohorts.lymph_node import CELL_UM, Region, draw_regions
from wsi_hf.cohorts.synthetic import SCANNERS_MPP, cohort_slides, render
from wsi_hf.slides.pyramid import write_pyramid
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue import find_tissue, find_tissue_in, mask_index

GLASS, STROMA, NUCLEI, PALE = (242, 241, 243), (225, 150, 200), (110, 70, 150), (228, 208, 226)
BLACK, GREY, GREEN_PEN, BLUE_PEN = (12, 10, 14), (150, 148, 152), (60, 160, 90), (40, 80, 190)


def slide_image(middle: tuple[int, int, int], size: int = 64, noise: float = 2.0) -> np.ndarray:
    """Noisy glass with a square of one colour in the middle half; uint8, 8 um a pixel."""
    image = np.full((size, size, 3), GLASS, float)
    image[size // 4 : -size // 4, size // 4 : -size // 4] = middle
    return np.clip(image + np.random.default_rng(0).normal(0, noise, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("stain", [STROMA, NUCLEI, PALE])
def test_stained_tissue_is_found_also_where_it_is_pale(stain):
    mask = find_tissue_in(slide_image(stain), 8.0)
    expected = np.zeros((64, 64), bool)
    expected[16:-16, 16:-16] = True
    assert (mask & expected).sum() / (mask | expected).sum() > 0.85


@pytest.mark.parametrize("other", [GLASS, BLACK, GREY, GREEN_PEN, BLUE_PEN, (255, 255, 255)])
def test_glass_dust_padding_and_pen_are_not_tissue(other):
    assert not find_tissue_in(slide_image(other), 8.0).any()


@pytest.mark.parametrize(
    "pen", [(200, 50, 60), (140, 30, 40), (220, 60, 80), (90, 50, 140), (35, 35, 40), (40, 60, 150)]
)
def test_pen_beside_tissue_is_none_and_the_tissue_stays(pen):
    image = slide_image(STROMA, size=128)
    image[6:26, 8:120] = np.clip(np.random.default_rng(1).normal(pen, 3, (20, 112, 3)), 0, 255)
    mask = find_tissue_in(image, 8.0)
    assert mask[9:23, 11:117].mean() < 0.1
    assert mask[36:-36, 36:-36].all()


def test_faint_tissue_counts_where_it_touches_what_is_stained():
    image = slide_image(STROMA, size=128, noise=1.0)
    image[40:88, 96:120] = (240, 228, 240)  # mucus, beside the square
    image[100:120, 4:24] = (240, 228, 240)  # a shade on the glass
    mask = find_tissue_in(image, 8.0)
    assert mask[44:84, 98:117].mean() > 0.95
    assert not mask[98:122, 2:26].any()


def test_a_crop_that_is_all_tissue_is_all_tissue():
    image = np.where(np.random.default_rng(0).random((64, 64, 1)) < 0.5, STROMA, NUCLEI).astype(np.uint8)
    assert find_tissue_in(image, 8.0).all()


def test_an_image_of_one_colour_is_handled():
    assert not find_tissue_in(np.full((5, 7, 3), 255, np.uint8), 8.0).any()
    assert not find_tissue_in(np.zeros((5, 7, 3), np.uint8), 8.0).any()
    assert find_tissue_in(np.full((50, 70, 3), STROMA, np.uint8), 8.0).all()


def test_specks_go_and_small_holes_are_filled():
    image = slide_image(STROMA, noise=0)
    image[3:6, 3:6] = STROMA  # 24 x 24 um
    image[30:34, 30:34] = GLASS
    mask = find_tissue_in(image, 8.0)
    assert not mask[:10, :10].any()
    assert mask[20:-20, 20:-20].all()


def test_the_mask_lies_on_the_slides_grid(tmp_path):
    image = np.full((700, 500, 3), GLASS, np.uint8)
    image[400:, :200] = STROMA
    slide = Slide(write_pyramid(tmp_path / "corner.tif", image, 1.0))
    mask = find_tissue(slide, mpp=8.0)
    assert mask.shape == slide.size_px(8.0)[::-1] == (88, 63)
    assert mask[55:85, :20].all()
    assert not mask[:45].any()
    assert not mask[:, 30:].any()


def test_a_slide_without_tissue_is_empty_and_said(tmp_path, caplog):
    slide = Slide(write_pyramid(tmp_path / "white.tif", np.full((300, 300, 3), 255, np.uint8), 1.0))
    assert not find_tissue(slide).any()
    assert "white: no tissue found" in caplog.text


def test_the_tissue_of_a_synthetic_slide_is_what_was_drawn():
    slide = cohort_slides(1, 0, 384, 3, (0.01, 0.2))[0]
    image, _, mpp = render(slide)
    rng = np.random.default_rng([slide.seed, slide.number])
    assert SCANNERS_MPP[rng.integers(len(SCANNERS_MPP))] == mpp
    rng.uniform()  # the share of tumour
    drawn = draw_regions(rng, round(slide.size_um / CELL_UM), None) != Region.GLASS
    found = resize(find_tissue_in(image, mpp).astype(float), drawn.shape) > 0.5
    assert (found & drawn).sum() / drawn.sum() > 0.99
    assert (found & drawn).sum() / (found | drawn).sum() > 0.9  # it fills small holes and reaches a cell further


@pytest.mark.parametrize(
    ("name", "mpp", "low", "high"),
    [
        ("CMU-1-Small-Region.svs", None, 0.34, 0.44),
        ("TCGA-CR-7395-01A-01-TS1.svs", 0.25, 0.60, 0.72),
        ("camelyon16_tumor_001_level5.tif", 7.776, 0.04, 0.10),
    ],
)
def test_real_slides_have_the_tissue_that_is_seen(shared: Path, name, mpp, low, high):
    assert low < find_tissue(Slide(shared / "data/slides" / name, mpp=mpp), mpp=16.0).mean() < high


@pytest.mark.parametrize(
    ("size_px", "size_mask", "cell_px", "pixels", "expected"),
    [
        (1001, 126, 8, [0, 7, 8, 999, 1000], [0, 0, 1, 124, 125]),  # the last cell sticks out
        (1000, 125, 8, [7, 8, 999], [0, 1, 124]),
        (100, 2, 64, [49, 50, 63, 64], [0, 0, 0, 1]),
        (40, 3, 16, [13, 15, 16, 31, 32], [0, 0, 1, 1, 2]),
        (20, 3, 8 / 0.972, [7, 8, 15, 16], [0, 1, 1, 2]),
        (1001, 126, None, [7, 8, 1000], [0, 1, 125]),  # spans it exactly, as these
        (10, 3, None, [0, 3, 4, 6, 7, 9], [0, 1, 1, 1, 2, 2]),
        (4, 8, None, [0, 1, 3], [1, 3, 7]),  # finer than the pixels
    ],
)
def test_a_pixel_finds_its_cell_of_a_mask(size_px, size_mask, cell_px, pixels, expected):
    assert mask_index(np.array(pixels), size_px, size_mask, cell_px).tolist() == expected
