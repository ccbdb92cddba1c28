import numpy as np
import pytest
import torch

from wsi_hf.models.glass import find_glass, glass_loss

GLASS, FILL, EOSIN, NUCLEUS = (238, 236, 240), (0, 0, 0), (236, 190, 216), (80, 50, 130)


def picture(colour, tissue=EOSIN) -> torch.Tensor:
    """A patch of 32 x 32 pixels, its left half tissue with a nucleus, the other of one colour and noisy."""
    image = np.full((32, 32, 3), colour, np.float32) + np.random.default_rng(0).normal(0, 3, (32, 32, 3))
    image[:, :16] = tissue
    image[8:16, 4:12] = NUCLEUS
    return torch.from_numpy(image.clip(0, 255) / 255).float().permute(2, 0, 1)[None]


@pytest.mark.parametrize("colour", [GLASS, FILL, (255, 255, 255)])
def test_glass_and_black_fill_are_found_and_tissue_beside_them_is_let_be(colour):
    glass = find_glass(picture(colour), mpp=1.0)[0, 0]
    assert glass[:, 22:].all()
    assert not glass[:, :20].any()  # within 4 um of tissue it does not count


@pytest.mark.parametrize("colour", [EOSIN, NUCLEUS, (225, 170, 210), (60, 60, 140)])
def test_stained_pixels_are_no_glass_however_pale_or_blue(colour):
    assert not find_glass(picture(colour), mpp=1.0).any()


def test_the_loss_is_the_mean_softplus_of_the_margins_of_glass():
    logits = torch.tensor([[[[0.0, 1.0]], [[2.0, 5.0]]]], requires_grad=True)  # margins 2 and 4
    glass = torch.tensor([[[[True, False]]]])
    assert glass_loss(logits, glass).item() == pytest.approx(np.log1p(np.exp(2.0)), rel=1e-6)
    none = glass_loss(logits, torch.zeros_like(glass))
    none.backward()
    assert none.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
