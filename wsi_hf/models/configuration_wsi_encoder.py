"""The configuration of a pre-trained encoder under a light decoder, with the paper's slide head."""

import math
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_wsi_unet import WsiUNetConfig

STRIDE = 32
"""Pixels that a cell of the last stage covers in encoders that halve the image stage by stage."""


@strict
class WsiEncoderConfig(PreTrainedConfig):
    r"""
    A pre-trained encoder under a pixel decoder, with the paper's slide head.

    Args:
        backbone_config (`PreTrainedConfig` or `dict`): of the encoder: ConvNeXt, Swin, ResNet, DINOv2, ViT,
            ... Its `out_features` name the stages that the decoder sees.
        decoder_channels (`int`): channels in which the decoder joins the stages.
        pixel_channels (`int`): channels of the features that come from the pixels themselves.
        freeze_encoder (`bool`): the encoder's own weights stay as they are.
        lora_rank (`int`): rank of the adapters that are trained in the encoder's linear layers (peft); 0: none.
        image_mean, image_std (`list[float]`): colours that the encoder was trained with. ImageNet's.
        eta, beta_0, beta_1, mpp, smoothing, guided_smoothing, calibration: as in `WsiUNetConfig`.
    """

    model_type = "wsi-encoder"
    sub_configs: ClassVar[dict[str, Any]] = {"backbone_config": AutoConfig}
    _auto_class: ClassVar[str | None] = "AutoConfig"  # this file is saved beside the configuration

    backbone_config: dict | PreTrainedConfig | None = None
    decoder_channels: int = 64
    pixel_channels: int = 16
    freeze_encoder: bool = True
    lora_rank: int = 0
    image_mean: list[float] | tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: list[float] | tuple[float, ...] = (0.229, 0.224, 0.225)
    eta: float | int = 50.0
    beta_0: float | int = 0.0
    beta_1: float | int = 1.0
    mpp: float | int = 1.0
    smoothing: int = 0
    guided_smoothing: bool = False
    calibration: dict | None = None

    def __post_init__(self, **kwargs):
        if self.backbone_config is None:
            self.backbone_config = AutoConfig.for_model("convnext")
        elif isinstance(self.backbone_config, dict):
            settings = dict(self.backbone_config)
            self.backbone_config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        if self.id2label is None and kwargs.get("num_labels") in (None, 2):
            self.id2label = {0: "benign", 1: "malignant"}
        super().__post_init__(**kwargs)
        self.label2id = {str(label): int(i) for i, label in (self.id2label or {}).items()}

    def validate_size(self) -> None:
        """Refuse sizes that cannot be meant."""
        for name, most in (("decoder_channels", 4096), ("pixel_channels", 512)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie in 1..{most}; got {getattr(self, name)}")
        if not 0 <= self.lora_rank <= 1024:
            raise ValueError(f"lora_rank must lie in 0..1024; got {self.lora_rank}")
        if not 0 <= self.smoothing <= 1024:
            raise ValueError(f"smoothing must lie in 0..1024 pixels; got {self.smoothing}")

    validate_method = WsiUNetConfig.validate_method

    @property
    def layered(self) -> bool:
        """Whether all stages have one resolution, as in a vision transformer, and are many."""
        return len(getattr(self.backbone_config, "stage_names", None) or range(99)) > 6

    @property
    def alignment(self) -> int:
        """Sides of what the encoder sees are multiples of this many pixels."""
        patch = getattr(self.backbone_config, "patch_size", 1)
        patch = max(patch) if isinstance(patch, list | tuple) else patch
        return patch if self.layered else math.lcm(patch, STRIDE)


__all__ = ["WsiEncoderConfig"]
