"""Plain images and arrays as 8-bit RGB: what has one meaning is converted, the rest refused."""

import numpy as np
from PIL import Image, ImageOps

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa")
A_WAY_OUT = "scale it to 8-bit RGB yourself: what is black and what is white is not said"


class PixelError(ValueError):
    """Pixels that have no one meaning as 8-bit RGB."""


def rgba(image: Image.Image) -> Image.Image:
    """A plain image, turned as its EXIF orientation says.

    Raises:
        PixelError: its pixels are not of 8 bits.
    """
    if image.mode not in EIGHT_BIT_MODES:
        raise PixelError(f"its pixels are not of 8 bits (mode {image.mode}); {A_WAY_OUT}")
    return ImageOps.exif_transpose(image).convert("RGBA")


def image_of(array: np.ndarray) -> Image.Image:
    """An array as an image: uint8, or float in 0..1; (H, W, 3), (H, W, 4), (3, H, W), (H, W) or (H, W, 1).

    Raises:
        PixelError: it has another shape or type, or no pixels.
    """
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)  # channels first, as torch has them
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise PixelError(f"an RGB image has the shape (H, W, 3), not {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PixelError(f"an image of type {array.dtype} has values in 0..1; {A_WAY_OUT}")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise PixelError(f"an image of type {array.dtype} is not of 8 bits (uint8); {A_WAY_OUT}")
    return Image.fromarray(np.ascontiguousarray(array))
