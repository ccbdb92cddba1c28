import pytest
import torch

from wsi_hf.sampling.augmentation import PatchAugmentation

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_same_seed_gives_the_same_batch_and_leaves_the_global_state_alone():
    augment = PatchAugmentation()
    before = torch.get_rng_state()
    first = augment(IMAGES, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(augment(IMAGES, seed=1), first)
    assert not torch.equal(augment(IMAGES, seed=2), first)


def test_rotation_and_mirroring_only_move_pixels():
    moved = PatchAugmentation(elastic_px=0, stain_jitter=0, colour_jitter=0)(IMAGES, seed=0)
    assert not torch.equal(moved, IMAGES)
    for image, original in zip(moved, IMAGES, strict=True):
        assert any(
            torch.allclose(torch.rot90(turned, k, (1, 2)), image, atol=1e-5)
            for turned in (original, original.flip(2))
            for k in range(4)
        )


def test_stain_jitter_multiplies_optical_density_by_one_factor_a_channel():
    jittered = PatchAugmentation(rotate=False, mirror=False, elastic_px=0, colour_jitter=0)(IMAGES, seed=0)
    factor = jittered.clamp(min=1e-9).log() / IMAGES.clamp(min=1 / 255).log()
    assert factor.std(dim=(2, 3)).max() < 1e-3
    assert factor.mean(dim=(2, 3)).std() > 0.05


def test_elastic_deformation_has_the_asked_displacement():
    ramp = torch.linspace(0, 1, 64).expand(8, 3, 64, 64)  # grey = x / 63
    warped = PatchAugmentation(False, False, elastic_px=2.0, stain_jitter=0, colour_jitter=0)(ramp, seed=0)
    shift = ((warped - ramp) * 63)[:, :, 16:48, 16:48]
    assert shift.square().mean().sqrt().item() == pytest.approx(2.0, rel=0.3)


def test_everything_off_changes_nothing():
    assert torch.equal(PatchAugmentation(False, False, 0, 0, 0)(IMAGES, seed=0), IMAGES)


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match="stain_jitter"):
        PatchAugmentation(stain_jitter=-1)


@pytest.mark.parametrize("elastic_px", [0, 2.0])
def test_a_mask_moves_as_its_pixels_do(elastic_px):
    augment = PatchAugmentation(elastic_px=elastic_px, stain_jitter=0, colour_jitter=0)
    assert torch.equal(augment.move(IMAGES[:, :1], seed=1), augment(IMAGES, seed=1)[:, :1])
