"""The pyramidal TIFF as OpenSlide sees it."""

from itertools import pairwise

import numpy as np
import openslide
import pytest
import tifffile

from wsi_hf.slides.pyramid import write_pyramid


class Lazy:
    """An image that is only ever seen in slices; remembers the largest."""

    def __init__(self, image: np.ndarray):
        self.image, self.shape, self.largest = image, image.shape, 0

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        part = self.image[window]
        self.largest = max(self.largest, part.shape[0] * part.shape[1])
        return part


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Smooth colours, so that JPEG is nearly exact."""
    y, x = np.mgrid[0:640, 0:512]
    return np.stack([x / 2, y / 3, (x + y) / 6], axis=2).astype(np.uint8)


def test_openslide_finds_levels_and_mpp(tmp_path, image):
    with openslide.OpenSlide(str(write_pyramid(tmp_path / "a.tif", image, 0.486, smallest=128))) as slide:
        assert slide.level_dimensions == ((512, 640), (256, 320), (128, 160))
        assert slide.level_downsamples == (1, 2, 4)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.486, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.486, rel=1e-6)


def test_every_level_is_the_mean_of_the_one_before(tmp_path, image):
    with tifffile.TiffFile(write_pyramid(tmp_path / "a.tif", image, 1.0, smallest=128)) as tif:
        levels = [page.asarray().astype(float) for page in tif.pages]
    assert np.abs(levels[0] - image).mean() < 1
    for fine, coarse in pairwise(levels):
        mean = fine.reshape(coarse.shape[0], 2, coarse.shape[1], 2, 3).mean((1, 3))
        assert np.abs(mean - coarse).mean() < 1


def test_sides_need_not_divide_by_anything(tmp_path):
    with openslide.OpenSlide(
        str(write_pyramid(tmp_path / "a.tif", np.full((301, 203, 3), 99, np.uint8), 1.0))
    ) as slide:
        assert slide.dimensions == (203, 301)
    with openslide.OpenSlide(str(write_pyramid(tmp_path / "a.tif", np.full((1, 1, 3), 99, np.uint8), 1.0))) as slide:
        assert slide.dimensions == (1, 1)


def test_a_large_image_is_read_tile_by_tile(tmp_path, image, monkeypatch):
    monkeypatch.setattr("wsi_hf.slides.pyramid.IN_MEMORY_BYTES", 1000)
    lazy = Lazy(np.tile(image, (2, 20, 1)))
    with tifffile.TiffFile(write_pyramid(tmp_path / "a.tif", lazy, 1.0)) as tif:
        assert np.abs(tif.pages[0].asarray()[:640, :512].astype(float) - image).mean() < 1
    assert lazy.largest <= 512 * 8192


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path):
    class Failing(Lazy):
        def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
            if window[0].start > 0:
                raise OSError("no space left on device")
            return super().__getitem__(window)

    (tmp_path / "a.tif").write_text("the file of before")
    with pytest.raises(OSError, match="no space left"):
        write_pyramid(tmp_path / "a.tif", Failing(np.zeros((600, 600, 3), np.uint8)), 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_text() == "the file of before"


def test_only_rgb_images_are_written(tmp_path):
    with pytest.raises(ValueError, match=r"a\.tif: an RGB image"):
        write_pyramid(tmp_path / "a.tif", np.zeros((8, 8), np.uint8), 1.0)
