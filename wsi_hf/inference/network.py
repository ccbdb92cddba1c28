"""A segmentation model made ready for inference: RGB tiles in, pixel logits out."""

import copy
import logging
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from wsi_hf.inference.piecewise import PiecewiseUNet, fold_batch_norm
from wsi_hf.models.class_names import malignant_class
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.models.modeling_wsi_encoder import WsiEncoderForSegmentation
from wsi_hf.models.modeling_wsi_unet import WsiUNetForSegmentation, WsiUNetPreTrainedModel
from wsi_hf.models.slide_head import GUIDE_RADIUS, smooth, smooth_along

logger = logging.getLogger(__name__)

PIECE_BYTES = 2**21
"""What a piece of the finest level may take, as one layer's features: measured, near the cache of a core."""

A_PROCESSOR = "image_processor=WsiImageProcessor(mpp=..., image_mean=..., image_std=...)"
LARGE = 4096
EACH_TILE_ON_CPU, EACH_TILE = 1_000, 30_000
"""What a tile costs whatever its size, as pixels that could be computed instead: calls, and a GPU's launches."""
FEW_SIZES = np.array([256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096])
"""Sides that a GPU's tiles are filled up to: its libraries prepare each convolution anew for every new size."""
BLENDED_MARGIN = 64
"""Pixels by which tiles of other networks overlap their neighbours, on each side."""


class PixelNetwork:
    """A frozen copy of a model on its device, in its dtype. The model itself is left as it was.

    labels: the model's words for benign (0) and malignant (1), whatever their order in the model.
    mpp: the resolution that it works at. alignment: tile corners are multiples of this many pixels. margin: pixels of
    surroundings that a tile is read with. exact: whether tiles with that margin join without a seam, as for this
    package's U-Net; other networks may look at the whole image, and their tiles are blended over the margins instead.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        image_processor: WsiImageProcessor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        compiled: bool = False,
    ) -> None:
        """
        Args:
            model: two classes, benign and malignant.
            image_processor: colours and mpp; by default those that every model of this package starts from.
            device, dtype: where and in what the network runs; by default the model's own.
            compiled: use `torch.compile`: seconds for the first tile, then faster in bf16 (not in float32 on CPUs).

        Raises:
            ValueError: the model has other classes, weights that are not finite, or no mpp.
        """
        check_model(model)
        self.device = torch.device(device if device is not None else model.device)
        self.dtype = dtype or model.dtype
        self.image_processor = image_processor or default_image_processor(model)
        if not isinstance(self.image_processor, WsiImageProcessor):
            raise ValueError(f"{type(self.image_processor).__name__} does not say the model's mpp; pass {A_PROCESSOR}")
        self.mpp = float(self.image_processor.mpp)
        self.config = model.config
        id2label: Any = model.config.id2label
        self._swapped = malignant_class(id2label) == 0
        names = [str(id2label[number]) for number in (0, 1)]
        self.labels = dict(enumerate(names[::-1] if self._swapped else names))
        self.exact = isinstance(model, WsiUNetForSegmentation)
        self.alignment = int(model.config.alignment) if self.exact else 2 * BLENDED_MARGIN
        self.margin = int(model.config.margin) if self.exact else BLENDED_MARGIN
        if not self.exact:
            name, overlap = type(model).__name__, 2 * self.margin
            logger.warning(
                "%s may look at the whole image: its tiles overlap by %d pixels and are blended", name, overlap
            )
        folded = fold_batch_norm(model) if isinstance(model, WsiUNetForSegmentation) else None
        self.model = cast(nn.Module, folded or copy.deepcopy(model).eval().requires_grad_(False))
        self.model.to(self.device, self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._unet = PiecewiseUNet(folded, self._piece(), compiled) if folded else None
        self.few_sizes = self.device.type != "cpu"

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Run the network.

        Args:
            pixels: uint8 tiles with their margins, (B, H + 2 margin, W + 2 margin, 3), on any device.

        Returns:
            float32 logits, benign first: (B, 2, H, W) of an exact network, (B, 2, H + 2 margin, W + 2 margin) of any
            other.
        """
        logits = self._logits(pixels)
        return logits.flip(1) if self._swapped else logits

    def _logits(self, pixels: Tensor) -> Tensor:
        x = self.image_processor.normalize_batch(pixels.to(self.device, non_blocking=True)).to(self.dtype)
        if self._unet is not None:  # and not the slide head, which sorts all pixels
            logits = self._unet(x, self.config.unet_margin).float()
            radius, reach = self.config.smoothing, self.config.smoothing_reach
            surplus = self.margin - self.config.unet_margin - reach
            logits = logits[:, :, surplus : -surplus or None, surplus : -surplus or None]
            if not self.config.guided_smoothing:
                return smooth(logits, radius, padded=False)
            around = self.margin - reach - GUIDE_RADIUS
            return smooth_along(x[:, :, around:-around, around:-around], logits, radius, padded=False)
        logits = self.model(pixel_values=x).logits.float()
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)

    def filled(self, size: np.ndarray) -> np.ndarray:
        """The side that tiles of this side, margins left out, are computed with; larger on a GPU: see `FEW_SIZES`."""
        if not (self.few_sizes and self.exact):
            return size
        at = np.minimum(np.searchsorted(FEW_SIZES, size), len(FEW_SIZES) - 1)
        return np.maximum(size, -(-FEW_SIZES[at] // self.alignment) * self.alignment)

    def cost(self, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """What tiles of (height, width) pixels take an exact network, margins included; in pixels of large tiles."""
        assert self._unet is not None
        height, width = self.filled(height), self.filled(width)
        smoothed = 2 * (self.margin - self.config.unet_margin)
        products = self._unet.products(height + smoothed, width + smoothed)
        a_pixel = self._unet.products(np.array(LARGE), np.array(LARGE)) / LARGE**2
        each = EACH_TILE_ON_CPU if self.device.type == "cpu" else EACH_TILE
        return products / a_pixel + height * width + each  # memory traffic goes by the area, margins hardly count

    def bytes_per_pixel(self) -> int:
        """Memory that a tile takes while it is computed, in bytes a pixel."""
        features = 3 * self.config.filters if self.exact else 256
        return features * self.dtype.itemsize + 64

    def _piece(self) -> int | None:
        if self.device.type != "cpu":
            return None
        return max(1024, PIECE_BYTES // (self.config.filters * self.dtype.itemsize))


def check_model(model: PreTrainedModel) -> None:
    """Refuse a model that cannot give benign and malignant logits, or does not say which is which."""
    malignant_class(model.config.id2label)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"the model's weights are not finite ({name}): the training that made them has diverged")


def default_image_processor(model: PreTrainedModel) -> WsiImageProcessor:
    """The colours that this package's models start from, or an encoder was trained with, at the model's own mpp."""
    if isinstance(model, WsiEncoderForSegmentation):
        config = model.config
        return WsiImageProcessor(mpp=config.mpp, image_mean=config.image_mean, image_std=config.image_std)
    if not isinstance(model, WsiUNetPreTrainedModel):
        raise ValueError(f"{type(model).__name__} does not say its mpp and colours; pass {A_PROCESSOR}")
    return WsiImageProcessor(mpp=model.config.mpp)
