import numpy as np
import pytest
import torch
from PIL import Image

from wsi_hf import Slide, segment_slide
from wsi_hf.models.glass import find_glass

from .conftest import make_trainer

GLASS, EOSIN = (238, 236, 240), (236, 190, 216)


def test_no_pixel_of_glass_is_called_malignant_after_training_with_it(tmp_path, slides):
    """A head that begins by calling everything malignant: the patches' labels alone do not teach it what glass is."""

    def glass_margins(weight: float) -> np.ndarray:
        trainer = make_trainer(
            tmp_path / str(weight), slides, max_steps=20, learning_rate=1e-2, per_device_train_batch_size=8,
            dynamic_sampling=False, glass_weight=weight, glass_share=0.25,
        )  # fmt: skip
        trainer.train()
        found = []
        for row in slides:
            slide = Slide(row["path"])
            result = segment_slide(trainer.model, slide, tissue=None, keep_margins=True)
            pixels = torch.from_numpy(slide.read_region_px((0, 0), slide.size_px(1.0), 1.0)).permute(2, 0, 1) / 255
            assert result.margins is not None
            found.append(np.asarray(result.margins)[find_glass(pixels[None], 1.0)[0, 0].numpy()])
        return np.concatenate(found)

    with_it, without = glass_margins(1.0), glass_margins(0.0)
    assert len(with_it) > 10_000
    assert with_it.max() < 0
    assert with_it.mean() < without.mean() - 0.5


def test_a_slide_s_padded_border_and_what_lies_off_its_tissue_are_nought(tmp_path, slides):
    image = np.full((101, 77, 3), GLASS, np.uint8)  # no multiple of the network's alignment
    image[:, 40:] = EOSIN
    Image.fromarray(image).save(tmp_path / "slide.png")
    tissue = np.zeros((101, 77), bool)
    tissue[:, 40:] = True
    model = make_trainer(tmp_path, slides).model
    result = segment_slide(model, tmp_path / "slide.png", mpp=1.0, tissue=tissue)
    assert result.probabilities.shape == (101, 77)
    assert np.array_equal(result.probabilities[:] > 0, tissue)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"glass_weight": -1.0}, "glass_weight must not be negative"), ({"glass_share": 1.5}, "glass_share is a share")],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, slides, wrong, said):
    with pytest.raises(ValueError, match=said):
        make_trainer(tmp_path, slides, **wrong)
