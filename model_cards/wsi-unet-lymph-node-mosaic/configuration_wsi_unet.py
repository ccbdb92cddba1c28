"""The configuration of the U-Net and its slide head."""

import math
from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

MOST_CHANNELS = 4096
"""Of the deepest stage. The paper's network has 512."""


@strict
class WsiUNetConfig(PreTrainedConfig):
    r"""
    The paper's U-Net and slide head.

    Args:
        filters (`int`): channels of the first stage; each deeper stage doubles them. The paper's 32.
        depth (`int`): number of down-samplings. 4 (not in the paper).
        eta (`float`): share of pixels that vote for malignant in the slide head, in percent. The paper's 50.
        beta_0, beta_1 (`float`): exponents of the beta-divergence, benign and malignant. The paper's 0 and 1.
        mpp (`float`): resolution that the model works at, in micrometres a pixel. The paper's 1.
        smoothing (`int`): logits are averaged over windows that reach this many pixels to each side. The paper's 0.
        guided_smoothing (`bool`): the averages follow the tissue, see `smooth_along`. The paper has none.
        calibration (`dict`): the operating point, set from slides that were not trained on; see docs/calibration.md.
    """

    model_type = "wsi-unet"
    _auto_class: ClassVar[str | None] = "AutoConfig"  # this file is saved beside the configuration

    filters: int = 32
    depth: int = 4  # not in the paper
    eta: float | int = 50.0
    beta_0: float | int = 0.0
    beta_1: float | int = 1.0
    mpp: float | int = 1.0
    num_channels: int = 3
    smoothing: int = 0  # not in the paper
    guided_smoothing: bool = False  # not in the paper
    calibration: dict | None = None  # not in the paper

    def __post_init__(self, **kwargs):
        if not 1 <= (kwargs.get("num_labels") or 2) <= 1000:
            raise ValueError(f"num_labels must lie in 1..1000; got {kwargs['num_labels']}")
        if self.id2label is None and kwargs.get("num_labels") in (None, 2):
            self.id2label = {0: "benign", 1: "malignant"}
        super().__post_init__(**kwargs)
        self.label2id = {str(label): int(i) for i, label in (self.id2label or {}).items()}

    def validate_size(self) -> None:
        """Refuse sizes that cannot be meant (a hostile config.json could otherwise ask for terabytes)."""
        if not 1 <= self.filters <= 512:
            raise ValueError(f"filters must lie in 1..512; got {self.filters}")
        if not 1 <= self.depth <= 7:
            raise ValueError(f"depth must lie in 1..7; got {self.depth}")
        if self.filters * 2**self.depth > MOST_CHANNELS:
            raise ValueError(
                f"filters * 2^depth, the channels of the deepest stage, must not exceed {MOST_CHANNELS}; got "
                f"{self.filters} * 2^{self.depth}"
            )
        if not 0 <= self.smoothing <= 1024:
            raise ValueError(f"smoothing must lie in 0..1024 pixels; got {self.smoothing}")
        if not 1 <= self.num_channels <= 64:
            raise ValueError(f"num_channels must lie in 1..64; got {self.num_channels}")

    def validate_method(self) -> None:
        """Refuse values that the method does not admit."""
        if not 0 < self.eta <= 100:
            raise ValueError(f"eta is a share in percent, 0 < eta <= 100; got {self.eta}")
        if self.beta_0 > 1 or self.beta_1 > 1 or self.beta_0 == self.beta_1 == 1:
            raise ValueError(f"beta_0 and beta_1 must be <= 1 and not both 1; got {self.beta_0}, {self.beta_1}")
        if not 0.05 <= self.mpp <= 20:
            raise ValueError(f"mpp must lie in 0.05..20 um a pixel; got {self.mpp}")

    @property
    def alignment(self) -> int:
        """Tile origins must be multiples of this many pixels, 2^depth, for tiles to join without a seam."""
        return 2**self.depth

    @property
    def margin(self) -> int:
        """Pixels of context that make an aligned tile exact: those of the U-Net, and of the smoothing round them."""
        return self.unet_margin + math.ceil(self.smoothing_reach / self.alignment) * self.alignment

    @property
    def smoothing_reach(self) -> int:
        """Pixels of logits on each side that a smoothed one is made of."""
        return self.smoothing * (2 if self.guided_smoothing else 1)

    @property
    def unet_margin(self) -> int:
        """6 * 2^depth pixels on each side cover the receptive field of the U-Net.

        The two 3x3 convolutions of each block reach 2 pixels at every scale, down and up again: 2 * (1 + 2 + ... +
        2^(d-1)) * 2 + 2 * 2^d = 6 * 2^d - 4, counted from the aligned block that the pixel lies in.
        """
        return 6 * self.alignment


__all__ = ["WsiUNetConfig"]
