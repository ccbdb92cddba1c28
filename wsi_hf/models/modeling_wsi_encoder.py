"""A pre-trained encoder, a light convolutional decoder with a skip from the pixels, and the paper's slide head.

Not in the paper, whose M may be "any segmentation model". What an encoder has learned of images elsewhere, slide labels
need not teach it again.
"""

import os
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig
from transformers import initialization as init

from .configuration_wsi_encoder import WsiEncoderConfig
from .encoders import Encoder, choose_stages, encoder_of
from .modeling_wsi_unet import WsiPreTrainedModel, WsiSegmentationOutput


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, so that a pixel's features depend on its surroundings alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ConvBlock(nn.Sequential):
    """A 3x3 convolution, channel norm, GELU."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), ChannelNorm(channels_out), nn.GELU()
        )


class WsiDecoder(nn.Module):
    """Join the encoder's maps from coarse to fine, then with features of the pixels themselves.

    Args:
        channels: of the encoder's maps, in their order.
    """

    def __init__(self, channels: list[int], width: int, pixel_width: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Sequential(ChannelNorm(c), nn.Conv2d(c, width, 1)) for c in channels)
        self.join = ConvBlock(width, width)
        self.to_pixels = nn.Conv2d(width, pixel_width, 1)
        self.pixels = nn.Sequential(ConvBlock(3, pixel_width), ConvBlock(pixel_width, pixel_width))
        self.last = ConvBlock(2 * pixel_width, pixel_width)

    def forward(self, pixel_values: Tensor, maps: list[Tensor]) -> Tensor:
        """Features of every pixel, (B, pixel_width, H, W)."""
        lateral = [project(x) for project, x in zip(self.lateral, maps, strict=True)]
        x = lateral[-1]
        for finer in reversed(lateral[:-1]):
            x = finer + _resized(x, finer.shape[2:])
        x = self.to_pixels(self.join(x))  # (B, pixel_width, H / stride, W / stride)
        return self.last(torch.cat((self.pixels(pixel_values), _resized(x, pixel_values.shape[2:])), dim=1))


class WsiEncoderForSegmentation(WsiPreTrainedModel):
    """Pixel logits and slide logits of a patch, from a pre-trained encoder."""

    config_class = WsiEncoderConfig
    base_model_prefix = "backbone"
    _auto_class = "AutoModelForSemanticSegmentation"  # this file, and those it imports, are saved beside the weights

    def __init__(self, config: WsiEncoderConfig):
        super().__init__(config)
        self.name_classes()
        of_encoder = cast(PreTrainedConfig, config.backbone_config)
        self.backbone: Encoder = encoder_of(of_encoder)
        self.decoder = WsiDecoder(self.backbone.channels, config.decoder_channels, config.pixel_channels)
        self.classifier = nn.Conv2d(config.pixel_channels, 2, 1)
        self.post_init()
        self._choose_trained()

    @classmethod
    def from_encoder(cls, encoder: str | os.PathLike, **settings: Any) -> "WsiEncoderForSegmentation":
        """Put a new decoder on a pre-trained encoder.

        Args:
            encoder: a folder or a repository on the Hub; any model of `AutoBackbone`, or a vision transformer.
            settings: of `WsiEncoderConfig`: mpp, freeze_encoder, lora_rank and the others. Colours are the encoder's.
        """
        of_encoder = AutoConfig.from_pretrained(encoder)
        choose_stages(of_encoder)
        config = WsiEncoderConfig(backbone_config=of_encoder, **(_colours(encoder) | settings))
        model = cls(config)
        model.backbone.load(encoder, of_encoder)
        return model

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, return_dict: bool | None = None
    ) -> WsiSegmentationOutput:
        """
        Args:
            pixel_values: normalised RGB, shape (B, 3, H, W).
            labels: the slides' labels, class indices (B,) or probabilities (B, 2).
        """
        logits = self.classifier(self.decoder(pixel_values, self.encode(pixel_values)))  # (B, 2, H, W)
        return self.judge(logits, pixel_values, labels)

    def encode(self, pixel_values: Tensor) -> list[Tensor]:
        """The encoder's maps of (B, 3, H, W), whose border is repeated up to a multiple of the encoder's stride."""
        height, width = pixel_values.shape[2:]
        align = self.config.alignment
        padding = (0, -width % align, 0, -height % align)
        x = F.pad(pixel_values, padding, mode="replicate") if any(padding) else pixel_values
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._encoder_learns):
            return self.backbone(x)

    def train(self, mode: bool = True) -> "WsiEncoderForSegmentation":
        """A frozen encoder stays as it is in use: without drop-out, with its own batch statistics."""
        super().train(mode)
        if not self._encoder_learns:
            self.backbone.eval()
        return self

    def merge_lora(self) -> None:
        """Fold the adapters into the encoder's weights: the same logits, no peft needed any more."""
        from peft.tuners.lora import LoraLayer

        adapters = {n: module for n, module in self.backbone.named_modules() if isinstance(module, LoraLayer)}
        for name, module in adapters.items():
            module.merge()
            self.backbone.set_submodule(name, module.get_base_layer())
        self.config.lora_rank = 0

    @property
    def _encoder_learns(self) -> bool:
        return not self.config.freeze_encoder or self.config.lora_rank > 0

    def _choose_trained(self) -> None:
        self.backbone.requires_grad_(not self.config.freeze_encoder)
        if self.config.lora_rank:
            from peft import LoraConfig, inject_adapter_in_model

            rank = self.config.lora_rank
            lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
            inject_adapter_in_model(lora, self.backbone)
            for name, weight in self.backbone.named_parameters():
                weight.requires_grad_("lora_" in name or not self.config.freeze_encoder)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


def _colours(encoder: str | os.PathLike) -> dict[str, Any]:
    """Mean and deviation that an encoder was trained with; none where its folder has no image processor."""
    try:
        processor = AutoImageProcessor.from_pretrained(encoder)
    except (OSError, ValueError):
        return {}
    timm = getattr(processor, "data_config", None)
    mean, std = (timm["mean"], timm["std"]) if timm else (processor.image_mean, processor.image_std)
    return {"image_mean": list(mean), "image_std": list(std)}


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


__all__ = ["WsiEncoderForSegmentation"]
