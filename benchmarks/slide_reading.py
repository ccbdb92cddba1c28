"""Patches a second: `Slide.read_patch` at a target mpp against bare OpenSlide reads of the level it reads from.

    python benchmarks/slide_reading.py SLIDE [--mpp 1.0] [--size 256] [--patches 500]

Both read the same places, one thread, with an empty tile cache; the bare read returns pixels of the level, not of the
target mpp, and stands for the floor: decoding alone. "cached" reads the same places again.
"""

import argparse
import time

import numpy as np
import openslide

from wsi_hf.slides.handles import configure_handles
from wsi_hf.slides.slide import Slide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("slide")
    parser.add_argument("--slide_mpp", type=float, help="um per level-0 pixel, where the file has none")
    parser.add_argument("--mpp", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=256, help="side of a patch in pixels")
    parser.add_argument("--patches", type=int, default=500)
    args = parser.parse_args()

    slide = Slide(args.slide, args.slide_mpp)
    centers = np.random.default_rng(0).uniform(0.2, 0.8, (args.patches, 2)) * slide.dimensions_l0
    bare = openslide.open_slide(args.slide)
    level = bare.get_best_level_for_downsample(1.02 * args.mpp / slide.mpp)
    downsample = bare.level_downsamples[level]
    side = round(args.size * args.mpp / slide.mpp / downsample)

    def read_bare(center: np.ndarray) -> np.ndarray:
        step = round(downsample)  # between whole pixels of the level OpenSlide interpolates, which is slower
        corner = ((center - side * downsample / 2).astype(int) // step * step).tolist()
        return np.asarray(bare.read_region(corner, level, (side, side)).convert("RGB"))

    def read_ours(center: np.ndarray) -> np.ndarray:
        return slide.read_patch(tuple(center), args.size, args.mpp)

    print(f"{slide}: level {level} ({slide.mpp * downsample:.3f} um/px), {args.size} px at {args.mpp} um/px")
    print(f"{'':28}{'patches/s':>10}{'cached':>10}")
    for name, read in (("OpenSlide, pixels of the level", read_bare), ("Slide.read_patch", read_ours)):
        bare.set_cache(openslide.OpenSlideCache(2**28))
        configure_handles(cache_bytes=2**28)
        rates = []
        for _ in range(2):
            start = time.perf_counter()
            for center in centers:
                read(center)
            rates.append(args.patches / (time.perf_counter() - start))
        print(f"{name:<28}{rates[0]:10.0f}{rates[1]:10.0f}")


if __name__ == "__main__":
    main()
