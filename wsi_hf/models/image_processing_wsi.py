"""The image processor: the resolution, mean and standard deviation that a model expects."""

import torch
from torch import Tensor
from transformers.image_processing_backends import PilBackend
from transformers.processing_utils import ImagesKwargs, Unpack


class WsiImageProcessorKwargs(ImagesKwargs, total=False):
    """mpp: resolution of the images that the model expects, in micrometres a pixel."""

    mpp: float


class WsiImageProcessor(PilBackend):
    """Normalise RGB images of one resolution: rescale to [0, 1], subtract the mean, divide by the deviation.

    Whole slides do not pass through here tile by tile: `normalize_batch` does the same on the device.
    """

    _auto_class = "AutoImageProcessor"  # this file is saved beside the configuration
    valid_kwargs = WsiImageProcessorKwargs
    model_input_names = ["pixel_values"]  # noqa: RUF012

    do_convert_rgb = True
    do_resize = False
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    # Mean and standard deviation of PatchCamelyon's lymph-node tissue.
    image_mean = [0.70, 0.54, 0.69]  # noqa: RUF012
    image_std = [0.24, 0.28, 0.21]  # noqa: RUF012
    mpp = 1.0

    def __init__(self, **kwargs: Unpack[WsiImageProcessorKwargs]):
        super().__init__(**kwargs)  # type: ignore[misc]

    def _preprocess(self, *args, mpp=None, **kwargs):  # mpp describes the images and changes none of them
        return super()._preprocess(*args, **kwargs)

    def normalize_batch(self, images: Tensor) -> Tensor:
        """uint8 images (B, H, W, 3) -> float32 pixel values (B, 3, H, W), channels last in memory, on their device."""
        x = images.permute(0, 3, 1, 2).float()
        return self.normalize_colours(x.mul_(self.rescale_factor))

    def normalize_colours(self, images: Tensor) -> Tensor:
        """RGB in [0, 1], shape (B, 3, H, W) -> pixel values of the same shape."""
        mean = torch.tensor(self.image_mean, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.image_std, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        return (images - mean) / std

    def post_process_semantic_segmentation(
        self, outputs, target_sizes: list[tuple[int, int]] | None = None, shift: float = 0.0
    ) -> list[Tensor]:
        """Class index of every pixel, one (H, W) tensor an image, resized to `target_sizes` (height, width).

        Args:
            shift: the margin l1 - l0 at which class 1 begins: 0 is the network's own P = 0.5; a calibrated model's
                operating point is `model.config.calibration["pixels"]["shift"]`.
        """
        begins = torch.tensor([0.0, shift], device=outputs.logits.device)
        logits = outputs.logits.float() - begins[:, None, None]  # (B, 2, h, w)
        if target_sizes is None:
            return list(logits.argmax(1))
        resize = torch.nn.functional.interpolate
        return [
            resize(image[None], size=tuple(size), mode="bilinear", align_corners=False)[0].argmax(0)
            for image, size in zip(logits, target_sizes, strict=True)
        ]


__all__ = ["WsiImageProcessor"]
