"""The sampler on the largest slide of CAMELYON16: 97,792 x 221,184 px at 0.243 um/px is 1.28 gigapixels at 1 um/px.

    python benchmarks/sampler.py                  # map_stride 8, the default
    python benchmarks/sampler.py --map_stride 1   # the paper's pixels

A tenth of the slide is tissue, in blobs; margins are noise. Prints the size on disk, the time to open a map and be
ready to draw, draws a second, and as a baseline the same draws from one flat cumulative sum.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from tqdm import tqdm

from wsi_hf import PatchSampler, ProbabilityMap
from wsi_hf.sampling.probability_map import ProbabilityMapBuilder, decode_cells

SIZE_PX = (round(97_792 * 0.243), round(221_184 * 0.243))
TILE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--map_stride", type=int, default=8)
    parser.add_argument("--draws", type=int, default=200_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)

    builder = ProbabilityMapBuilder("large", SIZE_PX, 1.0, tissue_of(rng), 2.0, arguments.map_stride, TILE, 0)
    for y in tqdm(range(0, SIZE_PX[1], TILE), desc="Mapping", unit="row"):
        for x in range(0, SIZE_PX[0], TILE):
            shape = (min(TILE, SIZE_PX[1] - y), min(TILE, SIZE_PX[0] - x))
            builder.add(x, y, torch.from_numpy(rng.normal(-4, 2, shape).astype(np.float32)))
    path = Path(tempfile.mkdtemp()) / "map.safetensors"
    builder.finish().save(path)

    opened, sampler = timed(lambda: PatchSampler(ProbabilityMap.load(path)))
    drawn, _ = timed(lambda: sampler.draw(arguments.draws, rng))
    one_by_one, _ = timed(lambda: [sampler.draw(1, rng) for _ in range(2000)])
    flat, cells = timed(lambda: np.cumsum(np.concatenate([decode_cells(codes).ravel() for codes in sampler.map.codes])))
    flat_drawn, _ = timed(lambda: np.searchsorted(cells, rng.random(arguments.draws) * cells[-1]))
    pixels, tiles = SIZE_PX[0] * SIZE_PX[1] / 1e9, len(sampler.map.codes)
    print(f"\n{pixels:.2f} Gpx, {tiles} tiles, map_stride {arguments.map_stride}\n")
    print("| | |\n|---|---|")
    print(f"| file | {path.stat().st_size / 1e6:.1f} MB |")
    print(f"| open a map and be ready to draw | {opened * 1e3:.1f} ms |")
    print(f"| the same with one flat cumulative sum | {flat * 1e3:.1f} ms |")
    print(f"| draws a second, {arguments.draws:,} at once | {arguments.draws / drawn:,.0f} |")
    print(f"| draws a second, one at a time | {2000 / one_by_one:,.0f} |")
    print(f"| draws a second, flat cumulative sum | {arguments.draws / flat_drawn:,.0f} |")
    print(f"| peak memory of this process | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB |")


def tissue_of(rng: np.random.Generator) -> np.ndarray:
    """A tenth of the slide in a few blobs, at 64 um a cell."""
    noise = ndimage.gaussian_filter(rng.standard_normal((SIZE_PX[1] // 64, SIZE_PX[0] // 64)), 20)
    return noise > np.quantile(noise, 0.9)


def timed(work):
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
