"""Whether a map that was read from a file can be one."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from wsi_hf.sampling.probability_map import ProbabilityMap


def check_map(loaded: "ProbabilityMap", kind: str) -> None:
    """Raise ValueError where the parts of a map, whose codes are of this kind, do not fit together."""
    side, count = loaded.tile_size // max(loaded.map_stride, 1), len(loaded.origins_px)
    in_order = (
        min(*loaded.size_px, loaded.map_stride, side) > 0
        and loaded.mpp > 0
        and all(map(math.isfinite, (loaded.mpp, loaded.alpha, loaded.sum_q, loaded.largest_margin)))
        and loaded.tile_size % loaded.map_stride == 0
        and (loaded.origins_px.shape, loaded.origins_px.dtype) == ((count, 2), np.int32)
        and (loaded.log_mass.shape, loaded.log_mass.dtype) == ((count,), np.float64)
        and (loaded.codes.shape, kind) == ((count, side, side), "U16")
        and count > 0
        and bool(np.isfinite(loaded.log_mass).all())
        and not (loaded.origins_px % loaded.tile_size).any()
        and bool(((loaded.origins_px >= 0) & (loaded.origins_px < loaded.size_px)).all())
    )
    if not in_order:
        raise ValueError("its parts do not fit together")
