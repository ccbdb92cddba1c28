import pytest
import torch

from wsi_hf import slide_logits


def pixels(malignant: list[list[float]]) -> torch.Tensor:
    malignant = torch.tensor(malignant)
    return torch.stack((torch.arange(malignant.numel()).view_as(malignant).float(), malignant))[None]


def test_benign_is_the_mean_and_malignant_the_mean_of_the_top_half():
    pooled = slide_logits(pixels([[1.0, 2.0], [3.0, 5.0]]), eta=50)
    assert pooled.tolist() == [[1.5, 4.0]]


@pytest.mark.parametrize(("eta", "expected"), [(1e-9, 5.0), (25, 5.0), (26, 4.0), (75, 10 / 3), (100, 2.75)])
def test_the_top_is_never_empty_and_rounds_up(eta, expected):
    assert slide_logits(pixels([[1.0, 2.0], [3.0, 5.0]]), eta)[0, 1].item() == pytest.approx(expected)


def test_ties_do_not_empty_the_top():
    assert slide_logits(torch.full((1, 2, 4, 4), 7.0), eta=50).tolist() == [[7.0, 7.0]]


def test_only_the_top_pixels_receive_gradient():
    logits = pixels([[1.0, 2.0], [3.0, 5.0]]).requires_grad_()
    slide_logits(logits, eta=50)[0, 1].backward()
    assert logits.grad[0, 1].tolist() == [[0.0, 0.0], [0.5, 0.5]]


def test_rounding_of_eta_does_not_add_a_pixel():
    logits = torch.zeros(1, 2, 10, 10)
    logits[0, 1, 0, :7] = 1.0
    assert slide_logits(logits, eta=7.000000000000001)[0, 1].item() == 1.0


@pytest.mark.parametrize("eta", [0, -1, 101])
def test_eta_outside_its_range_is_refused(eta):
    with pytest.raises(ValueError, match="eta"):
        slide_logits(torch.zeros(1, 2, 2, 2), eta)


def test_three_classes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        slide_logits(torch.zeros(1, 3, 2, 2), 50)
