"""The U-Net with its slide head, and the same network as an auto-encoder (paper, sections 3 and 6)."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput

from .class_names import malignant_class
from .configuration_wsi_unet import WsiUNetConfig
from .divergence import beta_divergence
from .downloads import check_index, note_download
from .slide_head import slide_logits, smooth, smooth_along


@dataclass
class WsiSegmentationOutput(ModelOutput):
    """loss (), the mean beta-divergence when labels were given; logits (B, 2, H, W); slide_logits (B, 2)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    slide_logits: Tensor | None = None


@dataclass
class WsiReconstructionOutput(ModelOutput):
    """loss (), the mean squared error; reconstruction (B, 3, H, W)."""

    loss: Tensor | None = None
    reconstruction: Tensor | None = None


class SeparableConv(nn.Sequential):
    """A 3x3 convolution of each channel, a 1x1 convolution across channels, batch-norm."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(
            nn.Conv2d(channels_in, channels_in, 3, padding=1, groups=channels_in, bias=False),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )


class ResidualBlock(nn.Module):
    """Two separable 3x3 convolutions round a residual connection, projected where the channels change."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv1 = SeparableConv(channels_in, channels_out)
        self.conv2 = SeparableConv(channels_out, channels_out)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        return F.relu(y + self.shortcut(x))


class WsiPreTrainedModel(PreTrainedModel):
    """What this package's networks share: their input, and how they are loaded."""

    main_input_name = "pixel_values"
    input_modalities = "image"

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """Load from a folder or the Hub. What came from the Hub is compared with the checksums announced there.

        Raises:
            ChecksumError: a file was changed on its way.
        """
        check_index(pretrained_model_name_or_path)
        loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        note_download(model, pretrained_model_name_or_path, kwargs.get("revision"), kwargs.get("cache_dir"))
        return loaded

    def name_classes(self) -> None:
        """Find the malignant class by its name.

        Raises:
            ValueError: there are other classes than benign and malignant.
        """
        if self.config.num_labels != 2:
            raise ValueError(
                f"the slide head knows two classes, benign and malignant; the config has {self.config.num_labels}"
            )
        self.malignant_first = malignant_class(self.config.id2label) == 0

    def judge(self, logits: Tensor, pixel_values: Tensor, labels: Tensor | None) -> WsiSegmentationOutput:
        """The slide head's verdict on pixel logits (B, 2, H, W) of an image, and with the slides' labels the loss."""
        radius = self.config.smoothing
        logits = smooth_along(pixel_values, logits, radius) if self.config.guided_smoothing else smooth(logits, radius)
        pooled = slide_logits(logits.flip(1) if self.malignant_first else logits, self.config.eta)  # (B, 2)
        pooled = pooled.flip(1) if self.malignant_first else pooled
        loss = None
        if labels is not None:
            betas = (self.config.beta_0, self.config.beta_1)
            loss = beta_divergence(pooled, labels, betas[::-1] if self.malignant_first else betas).mean()
        return WsiSegmentationOutput(loss=loss, logits=logits, slide_logits=pooled)


class WsiUNetPreTrainedModel(WsiPreTrainedModel):
    config_class = WsiUNetConfig
    base_model_prefix = "unet"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))  # PyTorch's own; not in the paper
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            for name, tensor in module.state_dict(keep_vars=True).items():
                (init.ones_ if name in ("weight", "running_var") else init.zeros_)(tensor)


class WsiUNetModel(WsiUNetPreTrainedModel):
    """The U-Net itself: an image in, one feature vector a pixel out.

    Args:
        lateral_skips: join the encoder's features to the decoder's at each scale. Without them it is an auto-encoder.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: WsiUNetConfig, lateral_skips: bool = True):
        super().__init__(config)
        self.lateral_skips = lateral_skips
        channels = [config.filters * 2**level for level in range(config.depth + 1)]
        self.encoder = nn.ModuleList(map(ResidualBlock, [config.num_channels, *channels[:-2]], channels[:-1]))
        self.bottom = ResidualBlock(channels[-2], channels[-1])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, 2, stride=2)  # not in the paper: how to go up
            for shallow, deep in pairwise(channels)
        )
        self.decoder = nn.ModuleList(ResidualBlock(c * (2 if lateral_skips else 1), c) for c in channels[:-1])
        self.post_init()

    def forward(self, pixel_values: Tensor, return_dict: bool | None = None) -> BaseModelOutput:
        """Features of every pixel, (B, 3, H, W) -> last_hidden_state (B, filters, H, W).

        Sides that are no multiple of 2^depth are padded with zeros for the computation and cut again.
        """
        height, width = pixel_values.shape[2:]
        align = self.config.alignment
        x = (
            F.pad(pixel_values, (0, -width % align, 0, -height % align))
            if height % align or width % align
            else pixel_values
        )
        lateral = []
        for block in self.encoder:
            x = block(x)  # (B, filters * 2^level, H / 2^level, W / 2^level)
            lateral.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for level in reversed(range(self.config.depth)):
            x = self.up[level](x)
            x = torch.cat((x, lateral[level]), dim=1) if self.lateral_skips else x
            x = self.decoder[level](x)
        return BaseModelOutput(last_hidden_state=x[:, :, :height, :width])


class WsiUNetForSegmentation(WsiUNetPreTrainedModel):
    """Pixel logits and slide logits of a patch: the paper's model."""

    _auto_class = "AutoModelForSemanticSegmentation"  # this file, and those it imports, are saved beside the weights

    def __init__(self, config: WsiUNetConfig):
        super().__init__(config)
        self.name_classes()
        self.unet = WsiUNetModel(config)
        self.classifier = nn.Conv2d(config.filters, 2, 1)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, return_dict: bool | None = None
    ) -> WsiSegmentationOutput:
        """
        Args:
            pixel_values: normalised RGB, shape (B, 3, H, W).
            labels: the slides' labels, class indices (B,) or probabilities (B, 2), in the order of id2label.
        """
        logits = self.classifier(self.unet(pixel_values).last_hidden_state)  # (B, 2, H, W)
        return self.judge(logits, pixel_values, labels)


class WsiUNetForReconstruction(WsiUNetPreTrainedModel):
    """The same U-Net without lateral skips as an auto-encoder with L2 loss, for pre-training (paper, section 6)."""

    def __init__(self, config: WsiUNetConfig):
        super().__init__(config)
        self.unet = WsiUNetModel(config, lateral_skips=False)
        self.reconstruct = nn.Conv2d(config.filters, config.num_channels, 1)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, return_dict: bool | None = None
    ) -> WsiReconstructionOutput:
        """Reconstruct (B, 3, H, W) normalised RGB. `labels` are ignored: the image is its own target."""
        reconstruction = self.reconstruct(self.unet(pixel_values).last_hidden_state)
        loss = F.mse_loss(reconstruction.float(), pixel_values.float())
        return WsiReconstructionOutput(loss=loss, reconstruction=reconstruction)


__all__ = ["WsiUNetForReconstruction", "WsiUNetForSegmentation", "WsiUNetModel", "WsiUNetPreTrainedModel"]
