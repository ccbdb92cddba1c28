"""What tissue looks like round each block, in 87 numbers: enough to tell kinds of glands apart. Not in the paper."""

import torch
import torch.nn.functional as F
from skimage.color import hed_from_rgb
from torch import Tensor

from wsi_hf.mapping.discovery.tissue_kinds import BLOCK_PX, LEVELS

WINDOW_BLOCKS = 7
"""Side of the window that is described round each block: 112 pixels."""
MARGIN_BLOCKS = WINDOW_BLOCKS // 2 + 1
"""What is read round the blocks that are described; the outermost ring only serves its neighbours."""
DENSITIES = (0.02, 0.06, 0.1, 0.15, 0.2, 0.27, 0.35, 0.45)
"""Of haematoxylin, blurred over 4 pixels: how much of the window is darker than each."""
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def statistics(pixels: Tensor) -> Tensor:
    """Describe the window round each block: colour, texture at four scales, local binary patterns of haematoxylin.

    Local to the window, so tiles join without a seam.

    Args:
        pixels: uint8 (H, W, 3); multiples of `BLOCK_PX`, with a margin of `MARGIN_BLOCKS` blocks on each side.

    Returns:
        (H / 16 - 8, W / 16 - 8, 87).
    """
    density = -torch.log((pixels.float() + 1) / 256)
    stains = (density @ torch.tensor(hed_from_rgb, dtype=torch.float32)).permute(2, 0, 1)[None]  # (1, 3, H, W)
    products = torch.cat((stains.square(), stains[:, :1] * stains[:, 1:], stains[:, 1:2] * stains[:, 2:]), dim=1)
    blocks = [F.avg_pool2d(torch.cat((stains, products), dim=1), BLOCK_PX)]
    for level in range(LEVELS):
        coarse, side = F.avg_pool2d(stains, 2), BLOCK_PX >> level
        difference = stains - F.interpolate(coarse, scale_factor=2)
        maps = [difference.abs(), _slope(stains), difference[:, :1] * difference[:, 1:2]]
        maps += [_patterns(stains[:, :1])] if level < 3 else []
        maps += [torch.cat([(stains[:, :1] > least).float() for least in DENSITIES], dim=1)] if level == 2 else []
        blocks += [F.avg_pool2d(torch.cat(maps, dim=1), side)]
        blocks += [F.avg_pool2d(difference.clamp(min=0).square(), side).sqrt()]
        stains = coarse
    inner = torch.cat(blocks, dim=1)[:, :, 1:-1, 1:-1]
    return F.avg_pool2d(inner, WINDOW_BLOCKS, stride=1)[0].permute(1, 2, 0)


def _slope(stains: Tensor) -> Tensor:
    """Length of the gradient of each stain, (1, C, H, W)."""
    padded = F.pad(stains, (0, 1, 0, 1), mode="replicate")
    right, down = padded[..., :-1, 1:] - stains, padded[..., 1:, :-1] - stains
    return (right.square() + down.square()).sqrt()


def _patterns(image: Tensor) -> Tensor:
    """Which of the ten rotation-invariant uniform local binary patterns a pixel is, (1, 1, H, W) -> (1, 10, H, W)."""
    height, width = image.shape[2:]
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    around = [padded[:, :, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in NEIGHBOURS]
    brighter = torch.cat(around, dim=1) > image
    changes = (brighter != brighter.roll(1, 1)).sum(1)
    code = torch.where(changes <= 2, brighter.sum(1), 9)
    return torch.stack([(code == number).float() for number in range(10)], dim=1)
