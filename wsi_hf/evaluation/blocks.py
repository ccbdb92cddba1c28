"""Large maps read a band of rows at a time, whatever holds them: numpy, zarr or a lazy object of one's own."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

BLOCK_PIXELS = 2**23
"""Pixels held at once."""


class MapLike(Protocol):
    """A map (H, W) that gives its part `[rows, columns]` as something numpy understands."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: Any, /) -> Any: ...


def row_blocks(shape: tuple[int, ...], multiple: int = 1, pixels: int = BLOCK_PIXELS) -> Iterator[tuple[slice, slice]]:
    """Cut (H, W) into bands of full rows, about `pixels` pixels each; their height is a multiple of `multiple`."""
    height, width = shape
    rows = max(1, pixels // max(1, width * multiple)) * multiple
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows)), slice(0, width)


def read_block(map_like: MapLike, block: tuple[slice, slice]) -> np.ndarray:
    """Read one block of a map into memory."""
    return np.asarray(map_like[block])
