"""Megapixels mapped a second by one mapper and by two, by the clock, and what reading and tiling cost of it.

    python benchmarks/mapping_pool.py --cohort COHORT [--filters 16] [--depth 3] [--slides 16] [--turns 3]

A round of so many slides is handed over to mappers that run already, `wsi-hf map` pinned to a core each; the table
gives the best of the turns, one mapper and two in turn. Reading alone: the same tiles through one reading thread and
through two, no network. Pixels: how many are computed for those of tissue, margins apart. It takes as many idle
cores as there are mappers.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from wsi_hf import Slide, WsiImageProcessor, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.reading import TileReader
from wsi_hf.inference.streaming import parts
from wsi_hf.inference.tiling import TileGrid
from wsi_hf.mapping.first_maps import prepare
from wsi_hf.mapping.joining import alive, open_training
from wsi_hf.mapping.lease import Watch
from wsi_hf.mapping.mapper import HandOver, MappingSettings, save_architecture, save_weights
from wsi_hf.mapping.slide_queue import default_file
from wsi_hf.slides.handles import configure_handles
from wsi_hf.training.run import mapping_settings, training_slides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cohort", required=True)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--mpp", type=float, default=1.0)
    parser.add_argument("--tile_size", type=int, default=768)
    parser.add_argument("--slides", type=int, default=16, help="slides a round, half of each class")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=args.filters, depth=args.depth, mpp=args.mpp))
    image_processor = WsiImageProcessor(mpp=args.mpp)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as run:
        settings = settings_of(args, Path(run))
        save_architecture(model, image_processor, settings.folder)
        Path(settings.folder).mkdir(parents=True, exist_ok=True)
        settings.save()
        prepare(settings)
        network = PixelNetwork(model, image_processor)
        computed, tissue = pixels_of(settings, network)
        seconds_read = [[read_all(settings, network, threads) for threads in (1, 2)] for _ in range(args.turns)]
        rounds = iter(range(99))
        for _ in range(args.turns):
            for mappers in rates:
                with mapping(Path(run), mappers):
                    for warm in (True, False):
                        seconds = map_round(settings, model, next(rounds))
                        if not warm:
                            rates[mappers].append(computed / 1e6 / seconds)
    one, two = (max(rates[mappers]) for mappers in (1, 2))
    print(f"\n{args.slides} slides: {computed / 1e6:.1f} Mpx computed, {tissue / computed:.2f} of them tissue\n")
    print("| | Mpx/s | over one |\n|---|---|---|")
    print(f"| one mapper | {one:.2f} | 1 |\n| two mappers | {two:.2f} | {two / one:.2f} |")
    one, two = (computed / 1e6 / min(turns) for turns in zip(*seconds_read, strict=True))
    print(
        f"| reading alone, one thread | {one:.1f} | 1 |\n| reading alone, two threads | {two:.1f} | {two / one:.2f} |"
    )
    print("\nall turns:", {mappers: [round(rate, 2) for rate in of] for mappers, of in rates.items()})


def settings_of(args: argparse.Namespace, run: Path) -> MappingSettings:
    rows = load_cohort(args.cohort)
    by_label = [[index for index, of in enumerate(rows["label"]) if of == label] for label in (0, 1)]
    chosen = [index for indices in by_label for index in indices[: args.slides // 2]]
    training = WsiTrainingArguments(
        output_dir=str(run), mapping_tile_size=args.tile_size, slides_per_round=args.slides, cpu_threads=1,
        use_cpu=True,
    )  # fmt: skip
    return mapping_settings(training, training_slides(rows.select(chosen)), args.mpp, run / "_mapping")


@contextmanager
def mapping(run: Path, mappers: int) -> Iterator[None]:
    """So many mapping processes, up and running."""
    lease = open_training(run / "_mapping")
    command = [sys.executable, "-m", "wsi_hf.cli", "map", str(run), "--device", "cpu", "--wait", "0"]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(mappers)]
    for process, core in zip(processes, sorted(os.sched_getaffinity(0)), strict=False):
        os.sched_setaffinity(process.pid, {core})
    try:
        while len(alive(run / "_mapping", Watch())) < mappers:
            time.sleep(0.1)
        yield
    finally:
        lease.release()
        for process in processes:
            process.wait()


def map_round(settings: MappingSettings, model: WsiUNetForSegmentation, number: int) -> float:
    """Seconds from the hand-over to the round's index."""
    begun = time.perf_counter()
    save_weights(model, settings.store.weights_path(number), HandOver())
    while not settings.store.index_path(number).exists():
        time.sleep(0.01)
    return time.perf_counter() - begun


def readers(settings: MappingSettings, network: PixelNetwork) -> Iterator[tuple[TileReader, np.ndarray]]:
    """Of each slide what reads the tiles that a mapper computes, and its tissue."""
    for info in settings.slides:
        slide, tissue = Slide(info.path, mpp=info.mpp), settings.store.load_map(default_file(info)).tissue()
        size, stride = slide.size_px(network.mpp), settings.map_stride
        grid = TileGrid.cover(size, settings.tile_size, network.alignment, stride)
        tiles = parts(network, grid, tissue)
        yield TileReader(slide, grid, network.margin, network.mpp, tiles, network.alignment), tissue


def pixels_of(settings: MappingSettings, network: PixelNetwork) -> tuple[int, int]:
    """(pixels computed, of them tissue) of all slides, margins apart."""
    computed = of_tissue = 0
    for reader, tissue in readers(settings, network):
        computed += sum(tile.width_px * tile.height_px for tile in reader.tiles)
        of_tissue += sum(int(reader.grid.tissue_of(tile, tissue).sum()) for tile in reader.tiles)
    return computed, of_tissue


def read_all(settings: MappingSettings, network: PixelNetwork, threads: int) -> float:
    """Seconds that so many threads take to read all tiles, from cold caches of decoded ones."""
    work = [(reader, tile) for reader, _ in readers(settings, network) for tile in reader.tiles]
    configure_handles(cache_bytes=2**26)
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda pair: pair[0].read(pair[1]).damages, work):
            pass
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
