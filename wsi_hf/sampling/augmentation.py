"""Augmentation as the paper lists it, on the device: rotation, mirroring, elastic deformation, colour jitter."""

import math

import kornia.augmentation as K
import torch
from torch import Tensor, nn

ELASTIC_SIGMA_PX = 8.0  # smoothness of the deformation field, a nucleus or two
FAINTEST = 1 / 255  # darkest grey whose optical density is told apart


class PatchAugmentation(nn.Module):
    """Augments a batch of patches, every patch differently, as a function of the batch and a seed alone.

    Args:
        rotate: turn by a multiple of 90 degrees (no corner has to be invented).
        mirror: flip left-right and up-down, each every other time.
        elastic_px: root-mean-square displacement of the elastic deformation in pixels; 0 = none.
        stain_jitter: standard deviation of the logarithm by which each colour channel's optical density is multiplied;
            0 = none. Without it a small cohort is learned by its stains and nothing generalises.
        colour_jitter: largest relative change of brightness, contrast and saturation; 0 = none.
    """

    def __init__(
        self,
        rotate: bool = True,
        mirror: bool = True,
        elastic_px: float = 1.0,
        stain_jitter: float = 0.3,
        colour_jitter: float = 0.1,
    ):
        super().__init__()
        for name, value in (
            ("elastic_px", elastic_px),
            ("stain_jitter", stain_jitter),
            ("colour_jitter", colour_jitter),
        ):
            if value < 0:
                raise ValueError(f"{name} must not be negative; got {value}")
        self.elastic_px, self.stain_jitter = elastic_px, stain_jitter
        self.flips = (
            nn.Sequential(K.RandomHorizontalFlip(p=0.5), K.RandomVerticalFlip(p=0.5)) if mirror else nn.Identity()
        )
        self.rotation = K.RandomRotation90(times=(0, 3), p=1.0) if rotate else nn.Identity()
        strength = (1 - colour_jitter, 1 + colour_jitter)
        self.colour = K.ColorJiggle(strength, strength, strength, p=1.0) if colour_jitter else nn.Identity()

    def forward(self, images: Tensor, seed: int) -> Tensor:
        """RGB in [0, 1], (B, 3, H, W), H = W -> the same, augmented. The global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # kornia draws its parameters from the CPU's generator
            images = self._move(images)
            if self.stain_jitter:
                images = self._stain(images)
            return self.colour(images)

    def move(self, masks: Tensor, seed: int) -> Tensor:
        """Masks of images, float (B, C, H, W) -> where `forward` puts their pixels with the same seed; same values."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._move(masks)

    def _move(self, images: Tensor) -> Tensor:
        images = self.rotation(self.flips(images))
        return self._elastic(images) if self.elastic_px else images

    def _elastic(self, images: Tensor) -> Tensor:
        size = images.shape[-1]
        # Uniform noise in [-1, 1] smoothed by a Gaussian keeps this standard deviation; kornia's unit is half an image.
        smoothed = 1 / math.sqrt(3) / (2 * ELASTIC_SIGMA_PX * math.sqrt(math.pi))
        alpha = self.elastic_px / (size / 2) / smoothed
        kernel = int(4 * ELASTIC_SIGMA_PX) + 1
        sigma = (ELASTIC_SIGMA_PX, ELASTIC_SIGMA_PX)
        warp = K.RandomElasticTransform((kernel, kernel), sigma, (alpha, alpha), padding_mode="reflection", p=1.0)
        return warp(images)

    def _stain(self, images: Tensor) -> Tensor:
        factors = torch.randn(images.shape[0], 3, 1, 1).mul_(self.stain_jitter).exp_().to(images)
        density = -images.clamp(min=FAINTEST).log()
        return (-density * factors).exp()
