"""The ways to describe windows of tissue, and to find from slide labels which of them to look at first."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsi_hf.mapping.discovery import discriminant, tissue_kinds, tissue_statistics
from wsi_hf.mapping.discovery.encoder_windows import EncoderWindows

COARSEST_MPP = 1.25
"""An encoder sees tissue no coarser: at 2.2 um/px it finds a third less than at 1.1."""


@dataclass(frozen=True)
class Finder:
    """One way.

    describe: windows round blocks, uint8 (zoom H, zoom W, 3) with a margin of `margin_blocks` on each side -> (rows,
        columns, F).
    zoom: how many pixels across are read for one of the model's.
    relative: whether less the slide's median, which moves with the tumour: a discriminant is blind after that.
    malignancy: Q of each slide's windows from their descriptions, see `tissue_kinds` and `discriminant`.
    """

    describe: Callable[[Tensor], Tensor]
    margin_blocks: int
    relative: bool
    malignancy: Callable[[list[np.ndarray], np.ndarray, int], tuple[list[np.ndarray], int]]
    zoom: int = 1

    def look_at(self, samples: Callable[[], Iterable[Tensor]]) -> None:
        """Let a description that has to see tissue before it describes any see some."""
        if isinstance(self.describe, EncoderWindows):
            self.describe.fit(samples())


def finder_of(name: str, mpp: float, encoder: str = "", device: torch.device | str = "cpu") -> Finder:
    """Give the finder.

    Args:
        name: as `--discovery`.
        mpp: the model's.
        encoder: folder or repository of a pre-trained encoder that describes the windows for the discriminant.
        device: where it runs.
    """
    if name == "kinds":
        return Finder(tissue_kinds.texture, 1, True, tissue_kinds.malignancy)
    if encoder:
        zoom = math.ceil(mpp / COARSEST_MPP)
        describe = EncoderWindows(encoder, zoom, device)
        return Finder(describe, tissue_statistics.MARGIN_BLOCKS, False, discriminant.malignancy, zoom)
    return Finder(tissue_statistics.statistics, tissue_statistics.MARGIN_BLOCKS, False, discriminant.malignancy)
