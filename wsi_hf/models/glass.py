"""Glass, holes, black fill and what lies outside the slide: known to be benign on every slide, malignant ones too.

The slide head alone lets them be: it weighs means over patches, and a hole may glow on a patch that is benign on the
whole. Nobody has to outline glass, so that a term for it needs no annotation. Not in the paper.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CLEAR = 0.15
"""Optical density up to which every channel of glass stays, a grey value of 180 of 255."""
COLOURLESS = 0.03
"""Largest difference of density between green and the fainter of red and blue: stain absorbs more green."""
BLACK = 16 / 255
"""Fill of scanners, after JPEG; the darkest nuclei are brighter."""
REACH_UM = 4.0
"""Glass this near to tissue is not counted: pale cytoplasm and bright nuclei are smaller than the window."""


def find_glass(images: Tensor, mpp: float) -> Tensor:
    """Pixels that hold no tissue, nor have any within `REACH_UM`. It errs on the side of tissue.

    Args:
        images: RGB in [0, 1] as scanned, before any augmentation, shape (B, 3, H, W).
        mpp: um per pixel.

    Returns:
        bool, shape (B, 1, H, W).
    """
    smooth = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)  # the noise of the camera
    density = -smooth.clamp(min=1 / 255).log10()
    red, green, blue = density.split(1, dim=1)  # (B, 1, H, W) each
    clear = (density.amax(1, keepdim=True) <= CLEAR) & (green - torch.minimum(red, blue) <= COLOURLESS)
    tissue = ~(clear | (smooth.amax(1, keepdim=True) <= BLACK))
    reach = max(1, round(REACH_UM / mpp))
    return F.max_pool2d(tissue.float(), 2 * reach + 1, stride=1, padding=reach) == 0


def glass_loss(logits: Tensor, glass: Tensor) -> Tensor:
    """Cross-entropy of the glass with "benign": the mean of softplus(l1 - l0) over its pixels, 0 where there are none.

    Args:
        logits: pixel logits (benign, malignant), shape (B, 2, H, W).
        glass: which pixels are glass, bool, shape (B, 1, H, W).
    """
    with torch.autocast(logits.device.type, enabled=False):
        cost = F.softplus(logits[:, 1:].float() - logits[:, :1].float())  # (B, 1, H, W)
        return (cost * glass).sum() / glass.sum().clamp(min=1)
