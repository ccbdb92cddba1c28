"""Join the overlapping tiles of networks that look at the whole image: a weighted mean where tiles meet.

Only for models other than this package's U-Net, whose aligned tiles agree exactly and need no mean.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from wsi_hf.inference.tiling import Tile, TileGrid


def blend(tiles: Iterable[tuple[Tile, Tensor]], grid: TileGrid, margin: int) -> Iterator[tuple[Tile, Tensor]]:
    """Blend tiles with their neighbours over the margins; a tile is given out as soon as its last neighbour is in.

    The weight of a tile rises linearly from 0 to 1 over the 2 * margin pixels across its border, and its neighbour's
    falls likewise. Where a neighbour has no tissue and is missing, the weights that are there are normalised.

    Args:
        tiles: (tile, logits (2, H + 2 margin, W + 2 margin)), in the order of their index.
        grid: the grid they belong to.
        margin: pixels by which the logits reach beyond the tile.
    """
    width, height = grid.tile_px
    columns = grid.shape[1]
    sums: dict[int, tuple[Tile, Tensor]] = {}  # index -> sum of (weight * logits, weight), (3, H, W)
    early: list[tuple[Tile, Tensor]] = []  # what earlier tiles know of tiles not seen yet
    for tile, logits in tiles:
        weight = torch.outer(_ramp(height, margin), _ramp(width, margin)).to(logits.device)
        seen = torch.cat((logits * weight, weight[None]))
        sums[tile.index] = (tile, _window(seen, margin, tile, tile, grid))
        for other, other_seen in early:
            if _adjacent(tile, other, columns):
                sums[tile.index][1].add_(_window(other_seen, margin, other, tile, grid))
        for index, (other, total) in sums.items():
            if index != tile.index and _adjacent(tile, other, columns):
                total.add_(_window(seen, margin, tile, other, grid))
        early = [(other, old) for other, old in early if other.index >= tile.index - columns - 1]
        early.append((tile, seen))
        for index in [index for index in sums if index + columns + 1 <= tile.index]:
            yield _mean(sums.pop(index))
    for index in list(sums):
        yield _mean(sums.pop(index))


def _mean(entry: tuple[Tile, Tensor]) -> tuple[Tile, Tensor]:
    tile, total = entry
    return tile, total[:2] / total[2:]


def _ramp(size: int, margin: int) -> Tensor:
    """Weights of a row of size + 2 * margin pixels: rising over the first 2 * margin, falling over the last."""
    rise = (torch.arange(2 * margin) + 0.5) / (2 * margin)
    return torch.cat((rise, torch.ones(max(0, size - 2 * margin)), rise.flip(0)))


def _adjacent(a: Tile, b: Tile, columns: int) -> bool:
    (row_a, column_a), (row_b, column_b) = divmod(a.index, columns), divmod(b.index, columns)
    return max(abs(row_a - row_b), abs(column_a - column_b)) == 1


def _window(seen: Tensor, margin: int, source: Tile, target: Tile, grid: TileGrid) -> Tensor:
    """What `source` saw of the pixels of `target`, zero where it saw nothing, (3, H, W)."""
    width, height = grid.tile_px
    out = seen.new_zeros(3, height, width)
    x, y = target.x_px - source.x_px + margin, target.y_px - source.y_px + margin  # target's corner in `seen`
    x0, y0, x1, y1 = max(0, x), max(0, y), min(seen.shape[2], x + width), min(seen.shape[1], y + height)
    out[:, y0 - y : y1 - y, x0 - x : x1 - x] = seen[:, y0:y1, x0:x1]
    return out
