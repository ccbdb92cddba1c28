"""The U-Net computed only where the wanted logits need it, in pieces that fit the processor's cache.

A tile with margins on all sides costs (1 + 2 * margin / tile)^2 times its own pixels, if each layer computes the
margins too. They are needed in full at the first layer alone: the decoder, three quarters of the work, needs two
pixels. So every block here takes its true surroundings, gives back two pixels less on each side (no padding with
zeros), and computes no more than the blocks above it will read. And a block whose input is larger than the cache is
computed piece by piece: the piece stays in the cache from its first convolution to its last, where whole layers would
go through main memory ten times a block. Pieces are bands of whole rows where they can: those are views that a
convolution takes without a copy.
"""

import copy
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wsi_hf.models.modeling_wsi_unet import ResidualBlock, SeparableConv, WsiUNetForSegmentation

BLOCK_REACH = 2
"""Pixels that the two 3x3 convolutions of a block reach on each side."""
HALO = 2
"""Pixels that the bottom and every decoder compute beyond the wanted ones, on each side. (HALO + BLOCK_REACH) / 2 is
HALO again, so that upsampled and lateral features begin at the same pixel on all levels."""
THINNEST = 16
"""Rows of the thinnest band: below it the rows that bands share would be computed too often."""


def fold_batch_norm(model: WsiUNetForSegmentation) -> WsiUNetForSegmentation:
    """A copy of the model for inference, its batch-norms folded, in float32, into the 1x1 convolutions before them."""
    folded = copy.deepcopy(model).float().eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, SeparableConv):
            pointwise, norm = cast(nn.Conv2d, module[1]), cast(nn.BatchNorm2d, module[2])
            module[1], module[2] = fuse_conv_bn_eval(pointwise, norm), nn.Identity()
    return folded


class PiecewiseUNet:
    """A folded U-Net as a function from an image with margins to the logits inside.

    `encoded[l]` is the halo of encoder l's output, at its own scale; `reach` is that of the input image.
    """

    def __init__(self, model: WsiUNetForSegmentation, piece: int | None = 2**14, compiled: bool = False) -> None:
        """
        Args:
            model: with its batch-norms folded.
            piece: pixels of a piece, at each level; None computes each block in one go (GPU).
            compiled: pass the blocks through `torch.compile`.
        """
        self.unet, self.classifier, self.piece = model.unet, model.classifier, piece
        self.depth = model.config.depth
        self.block = compile_block(self.depth) if compiled else shrinking_block
        self.encoded, self.reach = halos(self.depth)

    def __call__(self, x: Tensor, margin: int) -> Tensor:
        """Normalised pixels (B, 3, H + 2 margin, W + 2 margin) -> logits (B, 2, H, W); 2^depth divides H and W."""
        surplus = margin - self.reach
        if surplus < 0:
            raise ValueError(f"a margin of {self.reach} pixels is needed; got {margin}")
        height, width = x.shape[2] - 2 * margin, x.shape[3] - 2 * margin
        if height % 2**self.depth or width % 2**self.depth:
            raise ValueError(f"tiles must measure multiples of {2**self.depth} pixels; got {width} x {height}")
        x = x[:, :, surplus : x.shape[2] - surplus, surplus : x.shape[3] - surplus]
        lateral = []
        for level in range(self.depth):
            inside = self.encoded[level] - HALO - BLOCK_REACH
            kept, x = self._encode(cast(ResidualBlock, self.unet.encoder[level]), x, inside)
            lateral.append(kept)
        x = self._bottom(x)
        for level in reversed(range(self.depth)):
            x = self._decode(level, x, lateral.pop(), height >> level, width >> level)
        return x[:, :, HALO:-HALO, HALO:-HALO]

    def products(self, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """How many multiplications tiles of (H, W) take, margins included."""
        levels = range(self.depth)
        blocks: list[tuple[nn.Module, int, int]] = [(self.unet.bottom, self.depth, HALO)]
        blocks += [(self.unet.encoder[level], level, self.encoded[level]) for level in levels]
        blocks += [(self.unet.decoder[level], level, HALO) for level in levels]
        sizes = [(block, (height >> level) + 2 * halo, (width >> level) + 2 * halo) for block, level, halo in blocks]
        return np.sum([sum(p.numel() for p in block.parameters()) * h * w for block, h, w in sizes], axis=0)

    def _encode(self, block: ResidualBlock, x: Tensor, inside: int) -> tuple[Tensor, Tensor]:
        """Run an encoder's block: (its output less `inside` pixels a side, for the decoder; its output pooled)."""
        height, width = x.shape[2] - 2 * BLOCK_REACH, x.shape[3] - 2 * BLOCK_REACH
        channels = _channels(block)
        kept = _empty(x, channels, height - 2 * inside, width - 2 * inside)
        pooled = _empty(x, channels, height // 2, width // 2)
        for rows, columns in self._pieces(height, width):
            y = self.block(block, x[:, :, _grown(rows), _grown(columns)])
            pooled[:, :, _halved(rows), _halved(columns)] = F.max_pool2d(y, 2)
            to_rows, from_rows = _common(rows, inside, kept.shape[2])
            to_columns, from_columns = _common(columns, inside, kept.shape[3])
            kept[:, :, to_rows, to_columns] = y[:, :, from_rows, from_columns]
        return kept, pooled

    def _bottom(self, x: Tensor) -> Tensor:
        block = self.unet.bottom
        out = _empty(x, _channels(block), x.shape[2] - 2 * BLOCK_REACH, x.shape[3] - 2 * BLOCK_REACH)
        for rows, columns in self._pieces(*out.shape[2:]):
            out[:, :, rows, columns] = self.block(block, x[:, :, _grown(rows), _grown(columns)])
        return out

    def _decode(self, level: int, deeper: Tensor, lateral: Tensor, height: int, width: int) -> Tensor:
        """Go up one level and run the decoder's block; at level 0 the classifier too, so that only logits are kept."""
        block = cast(ResidualBlock, self.unet.decoder[level])
        channels = self.classifier.out_channels if level == 0 else _channels(block)
        out = _empty(deeper, channels, height + 2 * HALO, width + 2 * HALO)
        for rows, columns in self._pieces(*out.shape[2:]):
            window = _grown(rows), _grown(columns)
            up = self.unet.up[level](deeper[:, :, *map(_halved, window)])
            y = self.block(block, torch.cat((up, lateral[:, :, *window]), dim=1))
            out[:, :, rows, columns] = self.classifier(y) if level == 0 else y
        return out

    def _pieces(self, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """Cut a (height, width) output into pieces, as (rows, columns)."""
        side_h, side_w = height, width
        if self.piece is not None:
            side_w = min(width, max(2, self.piece // THINNEST // 2 * 2))
            side_h = max(2, self.piece // side_w // 2 * 2)
        for top in range(0, height, side_h):
            for left in range(0, width, side_w):
                yield slice(top, min(height, top + side_h)), slice(left, min(width, left + side_w))


def halos(depth: int) -> tuple[list[int], int]:
    """How many pixels the encoders compute beyond the wanted ones: (encoded, reach), see `PiecewiseUNet`."""
    encoded, reach = [0] * depth, HALO + BLOCK_REACH
    for level in reversed(range(depth)):
        encoded[level] = 2 * reach
        reach = encoded[level] + BLOCK_REACH
    return encoded, reach


def shrinking_block(block: ResidualBlock, x: Tensor) -> Tensor:
    """A residual block without padding, batch-norms folded: (B, C, H, W) -> (B, C', H - 4, W - 4)."""
    y = _shrinking_conv(block.conv2, _shrinking_conv(block.conv1, x).relu_())
    return y.add_(block.shortcut(x[:, :, BLOCK_REACH:-BLOCK_REACH, BLOCK_REACH:-BLOCK_REACH])).relu_()


def compile_block(depth: int) -> Callable[[ResidualBlock, Tensor], Tensor]:
    """`shrinking_block` through `torch.compile`, which has to keep one version for each of the network's blocks."""
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * (2 * depth + 1))  # the default is less than one a block
    return torch.compile(shrinking_block, dynamic=True)


def _shrinking_conv(conv: SeparableConv, x: Tensor) -> Tensor:
    depthwise, pointwise, _ = conv
    return pointwise(F.conv2d(x, cast(Tensor, depthwise.weight), groups=x.shape[1]))


def _channels(block: ResidualBlock) -> int:
    return cast(nn.Conv2d, block.conv1[1]).out_channels


def _empty(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    shape = (like.shape[0], channels, height, width)
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _grown(part: slice) -> slice:
    """The input that a block needs for a part of its output."""
    return slice(part.start, part.stop + 2 * BLOCK_REACH)


def _halved(part: slice) -> slice:
    return slice(part.start // 2, part.stop // 2)


def _common(part: slice, inside: int, size: int) -> tuple[slice, slice]:
    """Where a part of the output meets the kept middle: (as rows of the middle, as rows of the part)."""
    start, stop = max(part.start, inside), max(part.start, inside, min(part.stop, inside + size))
    return slice(start - inside, stop - inside), slice(start - part.start, stop - part.start)
