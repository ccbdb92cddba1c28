"""Fixed lattices on which a slide is read, so that a pixel has the same value whatever window it is read in."""

import math
from collections.abc import Iterator
from itertools import pairwise

STEP_PX = 64
"""Side of the fixed lattice of reads on levels whose downsample is not a whole number."""


def cuts(start: int, stop: int, block: int, origin: int = 0) -> Iterator[tuple[int, int]]:
    """Cut a range where the lattice of blocks does, one of which begins at `origin`."""
    edges = [start, *range(((start - origin) // block + 1) * block + origin, stop, block), stop]
    return pairwise(edges)


def level_edges(start: int, stop: int, shrink: float, block: int) -> tuple[float, float]:
    """Where pixels `start` to `stop`, all of one block, begin and end, in pixels of the level.

    Pillow takes coordinates as float32. Blocks therefore begin at multiples of a power of two, within 1/64 of a pixel
    of where they should, and are divided evenly: every coordinate is exact, and so are the weights of the neighbours.
    """
    index, step = start // block, power_of_two(shrink) / 32
    first, last = (round(i * block * shrink / step) * step for i in (index, index + 1))
    pixel = (last - first) / block
    return first + (start - index * block) * pixel, first + (stop - index * block) * pixel


def power_of_two(x: float) -> float:
    """The largest power of two that is at most x."""
    return 2.0 ** (math.frexp(x)[1] - 1)


def reads(
    origin: tuple[int, int], size: tuple[int, int], level_size: tuple[int, int], whole: bool
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(origin, size) of the reads that make up a window of a level, without what lies outside the slide.

    OpenSlide takes level-0 integers, divides them by the level's downsample and interpolates where that leaves a
    fraction. Where the downsample is a `whole` number there is none: one read. Elsewhere (2.0005) every read starts on
    one fixed lattice, so that a pixel has the same value whatever window it is read in.
    """
    first = [max(0, o) for o in origin]
    last = [min(o + s, limit) for o, s, limit in zip(origin, size, level_size, strict=True)]
    if first[0] >= last[0] or first[1] >= last[1]:
        return
    if whole:
        yield (first[0], first[1]), (last[0] - first[0], last[1] - first[1])
        return
    for y in range(first[1] // STEP_PX * STEP_PX, last[1], STEP_PX):
        for x in range(first[0] // STEP_PX * STEP_PX, last[0], STEP_PX):
            yield (x, y), (min(STEP_PX, last[0] - x), min(STEP_PX, last[1] - y))
