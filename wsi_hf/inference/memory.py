"""How large a tile may be, from the memory at hand."""

import psutil
import torch

from wsi_hf.inference.network import PixelNetwork

TILE_SIZES = (4096, 2048, 1024, 512, 256)
LARGEST_ON_CPU = 1024
"""Measured: beyond this the margins saved no longer outweigh the memory traffic (benchmarks/slide_inference.py)."""
BUSY_PX = 2**22
"""Pixels of a forward pass that keep a GPU busy."""
SHARE = 0.25
"""Of the free memory, what tiles being computed may take: the rest is for reading ahead, writing, and others."""


def largest_tile(network: PixelNetwork, batch_size: int = 1) -> int:
    """The largest tile in pixels that fits, 256 at least.

    Args:
        batch_size: tiles that are computed at once.
    """
    budget = SHARE * free_bytes(network.device) / (batch_size * network.bytes_per_pixel())
    sizes = [size for size in TILE_SIZES if network.device.type != "cpu" or size <= LARGEST_ON_CPU]
    return next((size for size in sizes if (size + 2 * network.margin) ** 2 <= budget), TILE_SIZES[-1])


def tiles_at_once(network: PixelNetwork, tile_size: int) -> int:
    """Tiles a forward pass: one on a CPU, on a GPU as many as keep it busy and fit."""
    if network.device.type == "cpu":
        return 1
    pixels = (tile_size + 2 * network.margin) ** 2
    return max(
        1, min(BUSY_PX // tile_size**2, int(SHARE * free_bytes(network.device) / network.bytes_per_pixel() / pixels))
    )


def free_bytes(device: torch.device) -> int:
    """Free memory of a device; on the CPU within the process's own limit, if it has one."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    try:
        import resource  # absent on Windows
    except ImportError:
        return free
    used = psutil.Process().memory_info()
    for limit, taken in ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", used.rss))):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            free = min(free, max(0, soft - taken))
    return free
