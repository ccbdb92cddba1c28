"""The slide head: pixel logits pooled into slide logits (paper, section 3)."""

import math

import torch
from torch import Tensor


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
