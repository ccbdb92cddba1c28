"""Patches a second out of DynamicPatchDataset and DataLoader against bare OpenSlide reads, and against wsistream.

    python benchmarks/patch_stream.py [SLIDE ...] [--workers 2] [--mpp 1.0] [--wsistream VENV/bin/python]

Bare: `read_region` of the level that is read from, at the same places of the same slides, with as many threads as the
stream has workers (none: the main process reads). It neither draws nor resamples nor crosses a process: the ceiling.
wsistream (PyPI, 0.1.6) runs in an environment of its own that also holds torch: uniform patches of the same slides,
level and size, the same workers. Without slides it draws two of CAMELYON16's scale and tiles. The methods take turns;
the best of each counts. CPU time is that of all reading processes together, warm-up and what they prefetch in vain
included; on a busy machine it says more than the clock.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
from torch.utils.data import DataLoader, Subset

from wsi_hf.cohorts.lymph_node import draw_slide
from wsi_hf.sampling.map_store import MapStore, Round
from wsi_hf.sampling.patch_dataset import DynamicPatchDataset, TrainingSlide
from wsi_hf.sampling.probability_map import default_map
from wsi_hf.slides.pyramid import write_pyramid
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue import find_tissue

BATCH = 32
WARM = 4 * BATCH
PEER = """
import json, os, sys, time
from torch.utils.data import DataLoader
from wsistream import OpenSlideBackend, OtsuTissueDetector, RandomSampler
from wsistream.torch import WsiStreamDataset
slides, size, mpp, patches, workers, batch = json.loads(sys.argv[1])
data = WsiStreamDataset(slides, OpenSlideBackend(), OtsuTissueDetector(), RandomSampler(size, target_mpp=mpp), seed=0,
                        output_dtype="uint8", pool_size=len(slides), tissue_mask_cache_size=len(slides))
cpu = sum(os.times()[:4])
loader = iter(DataLoader(data, batch, num_workers=workers))
for _ in range(4): next(loader)
start = time.perf_counter()
for _ in range(patches // batch): next(loader)
seconds = time.perf_counter() - start
del loader
print(seconds, sum(os.times()[:4]) - cpu)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("slides", nargs="*")
    parser.add_argument("--mpp", type=float, default=1.0, help="of the patches")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--patches", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wsistream", help="python of an environment with wsistream 0.1.6 and torch")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = args.slides or [str(path) for path in synthesize(Path(folder))]
        stream = stream_of(Path(folder), paths, args.mpp, args.size)
        draws = [stream.draw(i) for i in range(args.patches + WARM)]
        methods: dict[str, Callable[[], tuple[float, float]]] = {
            "bare read_region": lambda: bare(stream, draws, args.workers),
            "DynamicPatchDataset + DataLoader": lambda: ours(stream, args.patches, args.workers),
        }
        if args.wsistream:
            methods["wsistream 0.1.6"] = lambda: peer(args, paths)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
        for _ in range(args.rounds):
            for name, method in methods.items():
                found[name].append(method())
    print(
        f"\n{len(paths)} slides, {args.patches} patches of {args.size} px at {args.mpp} um/px, {args.workers} workers\n"
    )
    print("| | patches a second | of bare | CPU ms a patch | bare's of it |\n|---|---|---|---|---|")
    best = {name: [min(values) for values in zip(*times, strict=True)] for name, times in found.items()}
    for name, (seconds, cpu) in best.items():
        bare_seconds, bare_cpu = best["bare read_region"]
        print(
            f"| {name} | {args.patches / seconds:,.0f} | {bare_seconds / seconds:.2f} | "
            f"{1e3 * cpu / (args.patches + WARM):.2f} | {bare_cpu / cpu:.2f} |"
        )


class Repeated:
    """A picture side by side with itself, in both directions, as an array that is made where it is sliced."""

    def __init__(self, picture: np.ndarray, times: int) -> None:
        self.picture, self.shape = picture, (picture.shape[0] * times, picture.shape[1] * times, 3)

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (np.arange(*part.indices(n)) % n0 for part, n, n0 in
                         zip(window, self.shape, self.picture.shape, strict=False))  # fmt: skip
        return self.picture[rows[:, None], columns]


def synthesize(folder: Path) -> list[Path]:
    """Two slides shaped as CAMELYON16's: 40x, 0.243 um/px, JPEG tiles of 512 pixels, more than a cache holds."""
    for name, seed in (("a", 0), ("b", 1)):
        picture = draw_slide(np.random.default_rng(seed), 1536, 0.243, tumour_share=0.05)[0]
        write_pyramid(folder / f"{name}.tif", Repeated(picture, 6), 0.243, tile=512, quality=80)
    return sorted(folder.glob("*.tif"))


def stream_of(folder: Path, paths: list[str], mpp: float, size: int) -> DynamicPatchDataset:
    """The stream of a first round: uniform over the tissue. Slides take turns in being called benign and malignant."""
    store = MapStore(folder / "_mapping")
    slides = [TrainingSlide(f"{i}-{Path(path).stem}", path, i % 2) for i, path in enumerate(paths)]
    maps = [
        default_map(info.slide_id, slide.size_px(mpp), mpp, find_tissue(slide))
        for info in slides
        for slide in [Slide(info.path)]
    ]
    store.publish(-1, Round([store.save_map(made, -1) for made in maps]))
    return DynamicPatchDataset(
        slides, store, length=10**9, patch_size=size, mpp=mpp, items_per_round=10**8, shuffle_buffer=256, seed=0
    )


def ours(stream: DynamicPatchDataset, patches: int, workers: int) -> tuple[float, float]:
    cpu = cpu_s()
    loader = iter(DataLoader(Subset(stream, range(patches + WARM)), BATCH, num_workers=workers))
    for _ in range(WARM // BATCH):
        next(loader)
    started = time.perf_counter()
    assert sum(len(batch["labels"]) for batch in loader) == patches
    seconds = time.perf_counter() - started
    del loader
    return seconds, cpu_s() - cpu


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def bare(stream: DynamicPatchDataset, draws: list, workers: int) -> tuple[float, float]:
    cache = openslide.OpenSlideCache(256 * 2**20)
    handles, plans = [], []
    for info in stream.slides:
        handle = openslide.OpenSlide(info.path)
        handle.set_cache(cache)
        slide_mpp = Slide(info.path).mpp
        level = handle.get_best_level_for_downsample(1.02 * stream.mpp / slide_mpp)
        handles.append(handle)
        plans.append((slide_mpp, level, round(handle.level_downsamples[level])))

    def read(draw) -> np.ndarray:
        slide_mpp, level, step = plans[draw.slide]
        side = round(stream.patch_size * stream.mpp / slide_mpp / step)
        corner = [int((c * stream.mpp / slide_mpp - side * step / 2) // step * step) for c in draw.center_px]
        return np.asarray(handles[draw.slide].read_region((corner[0], corner[1]), level, (side, side)).convert("RGB"))

    cpu = cpu_s()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for _ in pool.map(read, draws[:WARM]):
            pass
        started = time.perf_counter()
        for _ in pool.map(read, draws[WARM:]):
            pass
        return time.perf_counter() - started, cpu_s() - cpu


def peer(args: argparse.Namespace, paths: list[str]) -> tuple[float, float]:
    facts = json.dumps([paths, args.size, args.mpp, args.patches, args.workers, BATCH])
    done = subprocess.run([args.wsistream, "-c", PEER, facts], check=True, capture_output=True, text=True, env=clean())
    seconds, cpu = map(float, done.stdout.split()[-2:])
    return seconds, cpu


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


if __name__ == "__main__":
    main()
