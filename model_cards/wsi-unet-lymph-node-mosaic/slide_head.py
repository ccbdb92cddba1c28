"""The slide head: pixel logits, smoothed where that is wanted, pooled into slide logits (paper, section 3)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

GUIDE_RADIUS = 2
"""Brightness that guides the smoothing is a mean over this many pixels to each side: a nucleus."""
FLAT = 1e-2
"""Variance of normalised brightness below which a window has nothing to be guided by: glass."""


def slide_logits(logits: Tensor, eta: float) -> Tensor:
    """Pool pixel logits into slide logits.

    l0 = mean of the benign logits, l1 = mean of the top eta percent of the malignant ones. The top is the k largest,
    k = max(1, ceil(eta/100 * n)), not "above the percentile": eta = 100 is then the mean, eta -> 0 the maximum, and
    ties cannot empty the set. Every pixel of the patch takes part. Computed in float32 at least, also under autocast.

    Args:
        logits: pixel logits (benign, malignant), shape (B, 2, H, W).
        eta: share of pixels that vote for malignant, in percent, 0 < eta <= 100.

    Returns:
        (l0, l1), shape (B, 2).

    Raises:
        ValueError: eta is outside (0, 100], or the logits do not have two classes.
    """
    check_eta(eta)
    if logits.dim() != 4 or logits.shape[1] != 2:
        raise ValueError(f"slide_logits takes pixel logits of shape (B, 2, H, W), not {tuple(logits.shape)}")
    with torch.autocast(logits.device.type, enabled=False):
        wide = torch.promote_types(logits.dtype, torch.float32)
        benign, malignant = logits.to(wide).flatten(2).unbind(1)  # (B, H*W) each
        l0 = benign.mean(1)
        l1 = malignant.topk(top_count(eta, malignant.shape[1]), dim=1, sorted=False).values.mean(1)
        return torch.stack((l0, l1), dim=1)


def top_count(eta: float, n: int) -> int:
    """The number of pixels among n that make up the top eta percent: ceil(eta/100 * n), safe against rounding."""
    return max(1, math.ceil(eta / 100 * n - 1e-9))


def check_eta(eta: float) -> None:
    if not 0 < eta <= 100:
        raise ValueError(f"eta is a share in percent, 0 < eta <= 100; got {eta}")


def smooth(logits: Tensor, radius: int, padded: bool = True) -> Tensor:
    """Average each pixel's logits over the square window that reaches `radius` pixels to each side. Not in the paper.

    Args:
        logits: shape (B, 2, H, W).
        radius: 0 leaves them as they are.
        padded: at the border, average what there is of the window; else give (H - 2 radius, W - 2 radius).
    """
    return _means(logits.float(), radius, padded).to(logits.dtype) if radius else logits


def smooth_along(pixels: Tensor, logits: Tensor, radius: int, padded: bool = True) -> Tensor:
    """Average logits over windows, but along what is seen: the guided filter (He et al. 2013). Not in the paper.

    In each window the logits become the line that fits them best against the brightness of the pixels; each pixel gets
    the mean of the lines of all windows that it lies in.

    Args:
        pixels: the image, (B, C, H, W); where not `padded` it reaches `GUIDE_RADIUS` further than the logits.
        logits, radius, padded: as for `smooth`; where not `padded`, gives (H - 4 radius, W - 4 radius).
    """
    if radius == 0:
        return logits
    wide = logits.float()
    guide = _means(pixels.float().mean(1, keepdim=True), GUIDE_RADIUS, padded)
    moments = _means(torch.cat((wide, guide, wide * guide, guide * guide), 1), radius, padded)
    mean, mean_guide, product, square = moments.split((2, 1, 2, 1), 1)
    slope = (product - mean * mean_guide) / (square - mean_guide**2 + FLAT)
    slope, offset = _means(torch.cat((slope, mean - slope * mean_guide), 1), radius, padded).split(2, 1)
    here = guide if padded else guide[:, :, 2 * radius : -2 * radius, 2 * radius : -2 * radius]
    return (slope * here + offset).to(logits.dtype)


def _means(x: Tensor, radius: int, padded: bool) -> Tensor:
    """Means over windows of 2 radius + 1 pixels a side: of what there is of them, or of whole ones alone."""
    sums = x
    for dim, pad in ((2, (0, 0, radius, radius)), (3, (radius, radius))):
        sums = _window_sums(F.pad(sums, pad) if padded else sums, 2 * radius + 1, dim)
    if not padded:
        return sums / (2 * radius + 1) ** 2
    counts = [_window_sums(F.pad(sums.new_ones(n), (radius, radius)), 2 * radius + 1, 0) for n in sums.shape[2:]]
    return sums / counts[0][:, None] / counts[1]


def _window_sums(x: Tensor, window: int, dim: int) -> Tensor:
    """Sums over `window` neighbours along `dim`, which gets `window` - 1 shorter; sums of 1, 2, 4, ... are shared."""
    length = x.shape[dim] - window + 1
    total, start, span = x.new_zeros(()), 0, 1
    while True:
        if window & span:
            total = total + x.narrow(dim, start, length)
            start += span
        if 2 * span > window:
            return total
        x = x.narrow(dim, 0, x.shape[dim] - span) + x.narrow(dim, span, x.shape[dim] - span)
        span *= 2
