"""Which number format a device computes in faster: asked of the device itself, in a second, not of its name.

bfloat16 halves the time of a GPU and of processors with instructions for it (AVX-512 BF16, AMX). Elsewhere every
product is converted back and forth: a training step can take twenty times as long as in float32, and nothing says so.
"""

import logging
import time
from functools import lru_cache

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

AUTO = "auto"
DTYPES = ("float32", "bfloat16", "float16")
ROUNDS, PROBE_S = 5, 0.6
"""The probe takes the fastest of so many turns, fewer where they take longer than so many seconds together."""


def choose_dtype(choice: str, device: torch.device | str, what: str = "the network") -> torch.dtype:
    """The format to compute in: that of the choice, which is warned about if it is slow; with "auto" the faster one.

    Args:
        choice: "auto", "float32", "bfloat16" or "float16".
        device: where it computes.
        what: who asks, for the log.
    """
    if choice not in (AUTO, *DTYPES):
        raise ValueError(f"a dtype is one of {', '.join((AUTO, *DTYPES))}; got {choice!r}")
    if choice not in (AUTO, "bfloat16"):
        return getattr(torch, choice)
    ratio = bf16_over_float32(str(device))
    if choice == AUTO:
        chosen = torch.bfloat16 if ratio < 1 else torch.float32
        said = str(chosen).removeprefix("torch.")
        logger.warning("%s runs in %s: bfloat16 takes %.2g times as long as float32 on %s", what, said, ratio, device)
        return chosen
    if ratio > 1:
        logger.warning(
            "%s runs in bfloat16 as asked, though that takes %.2g times as long as float32 on %s", what, ratio, device
        )
    return torch.bfloat16


@lru_cache
def bf16_over_float32(device: str) -> float:
    """How many times as long as in float32 a forward and backward pass takes in bfloat16; infinite if it fails."""
    target = torch.device(device)
    side, channels = (64, 16) if target.type == "cpu" else (256, 32)
    stage = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Conv2d(channels, channels, 1), nn.ReLU()
    )
    stage = stage.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.zeros(4, channels, side, side, device=target).contiguous(memory_format=torch.channels_last)
    best, begun = {torch.float32: float("inf"), torch.bfloat16: float("inf")}, time.perf_counter()
    try:
        for turn in range(ROUNDS + 1):
            for dtype in best:
                seconds = _pass(stage, x, dtype)
                best[dtype] = min(best[dtype], seconds if turn else float("inf"))  # the first one warms up
            if turn and time.perf_counter() - begun > PROBE_S:
                break
    except RuntimeError:
        return float("inf")
    return best[torch.bfloat16] / best[torch.float32]


def _pass(stage: nn.Module, x: Tensor, dtype: torch.dtype) -> float:
    started = time.perf_counter()
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        loss = stage(x).float().mean()
    loss.backward()
    float(next(stage.parameters()).grad.sum())  # type: ignore[union-attr]  # waits for the device
    return time.perf_counter() - started
