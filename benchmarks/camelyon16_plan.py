"""The whole of CAMELYON16 simulated: disk, memory, and what drawing and choosing take. Hours: camelyon16_hours.py.

    python benchmarks/camelyon16_plan.py camelyon16_polygons.tar.xz

The archive holds a JSON a slide: `positive` polygons are lesions (110 tumour slides), `negative` ones the tissue of the
normal slides (158), in level-0 pixels. Tumour slides are given the tissue outline of a normal slide in turn, and their
lesions. Maps have their true size at map_stride 8 on a slide's tissue; the network's probabilities are noise, high in
lesions.
"""

import argparse
import json
import lzma
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

from wsi_hf import PatchSampler, ProbabilityMap, SlideSampler
from wsi_hf.sampling.map_store import MapStore, Round
from wsi_hf.sampling.patch_dataset import DynamicPatchDataset, TrainingSlide
from wsi_hf.sampling.probability_map import ProbabilityMapBuilder

MPP_L0, MASK_UM, TILE, STRIDE = 0.243, 8, 512, 8
SLIDES_PER_ROUND, STEPS_PER_ROUND, BATCH, EPOCHS_UNMAPPED = 16, 100, 32, 8  # recipe "paper"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("polygons", help="tar.xz of the outlines")
    parser.add_argument("--every", type=int, default=1, help="take every n-th slide only, for a quick look")
    args = parser.parse_args()
    outlines = dict(list(read_outlines(Path(args.polygons)).items())[:: args.every])
    normal = [shapes for shapes, lesions in outlines.values() if not lesions]
    rng = np.random.default_rng(0)

    with tempfile.TemporaryDirectory() as folder:
        store, slides, entries, pixels, lesion_share = MapStore(folder), [], [], [], []
        for n, (name, (tissue, lesions)) in enumerate(tqdm(outlines.items(), desc="Maps", unit="slide")):
            made, share = simulate(name, tissue or normal[n % len(normal)], lesions, rng)
            slides.append(TrainingSlide(name, "", int(bool(lesions))))
            entries.append(store.save_map(made, 0))
            pixels.append(len(made.origins_px) * TILE**2 / 1e6)
            lesion_share.append(share)
        for round_index in (-1, 0):
            store.publish(round_index, Round(entries))
        files = [path.stat().st_size for path in (Path(folder) / "maps").iterdir()]
        opened = open_all(store, entries)
        drawn = draw_all(store, slides)
        chosen, waited = rounds_of(slides, entries)

    labels = np.array([slide.label for slide in slides])
    mean = np.mean(pixels)
    print(
        f"\n{len(slides)} slides, {labels.sum()} with lesions; tiles with tissue hold {mean:.0f} Mpx a slide on average"
    )
    print(
        f"(largest {max(pixels):.0f}); lesions are {100 * np.mean(np.array(lesion_share)[labels == 1]):.1f} % of them\n"
    )
    print("| | | goal |\n|---|---|---|")
    print(f"| all maps on disk | {sum(files) / 1e9:.2f} GB | 2 GB |")
    print(f"| largest map | {max(files) / 1e6:.1f} MB | |")
    print(f"| a sampler for every slide: memory of its own | {opened[1] / 1e9:.3f} GB | 1 GB |")
    print(f"| the same with all pages of the maps touched | {opened[2] / 1e9:.2f} GB | |")
    print(f"| opening all samplers | {opened[0]:.2f} s | |")
    print(f"| drawing a round's {STEPS_PER_ROUND * BATCH} patches, maps newly opened | {drawn:.2f} s | |")
    print(f"| choosing a round's slides | {chosen * 1e3:.2f} ms | |")
    print(f"| longest wait of a normal slide, of {EPOCHS_UNMAPPED} epochs promised | {waited:.1f} epochs | |")


def read_outlines(path: Path) -> dict[str, tuple[list[np.ndarray], list[np.ndarray]]]:
    """Slide -> (tissue polygons, lesion polygons), (n, 2) x, y in level-0 pixels."""
    found = {}
    with lzma.open(path) as file, tarfile.open(fileobj=file) as archive:
        for member in archive:
            if member.name.endswith(".json"):
                handle = archive.extractfile(member)
                assert handle is not None
                shapes = json.load(handle)
                parts = [[np.array(p["vertices"], float) for p in shapes[key]] for key in ("negative", "positive")]
                tumour = bool(parts[1])
                found[Path(member.name).stem] = ([] if tumour else parts[0], parts[1])
    return dict(sorted((name, parts) for name, parts in found.items() if parts[0] or parts[1]))


def simulate(
    name: str, tissue: list[np.ndarray], lesions: list[np.ndarray], rng: np.random.Generator
) -> tuple[ProbabilityMap, float]:
    """A slide's map at true size, and the share of its tissue that is lesion. Margins differ by cell, not by pixel."""
    shapes = [shape * MPP_L0 for shape in (*tissue, *lesions)]  # um
    corner = np.min([shape.min(0) for shape in shapes], axis=0) - 64
    size = np.max([shape.max(0) for shape in shapes], axis=0) - corner + 64
    cells = tuple(int(n) for n in np.ceil(size[::-1] / MASK_UM))
    mask = filled([(shape - corner) / MASK_UM for shape in shapes], cells)
    malignant = filled([(shape * MPP_L0 - corner) / MASK_UM for shape in lesions], cells)
    # cells of 8 um as pixels of a map of stride 1: the same file as at 1 um/px and stride 8
    side = TILE // STRIDE
    builder = ProbabilityMapBuilder(name, (cells[1], cells[0]), 8.0, mask, 2.0, 1, side, weights_step=0)
    margins = torch.from_numpy(rng.normal(-4, 2, cells).astype(np.float32) + np.where(malignant, np.float32(6), 0))
    for top in range(0, cells[0], side):
        if mask[top : top + side].any():
            builder.add(0, top, margins[top : top + side])
    return builder.finish(), malignant.sum() / mask.sum()


def filled(shapes: list[np.ndarray], cells: tuple[int, int]) -> np.ndarray:
    """The cells inside any of the polygons, bool (rows, columns)."""
    image = Image.new("1", cells[::-1])
    for shape in shapes:
        ImageDraw.Draw(image).polygon([tuple(point) for point in shape], fill=1)
    return np.array(image)


def open_all(store: MapStore, entries: list) -> tuple[float, float, float]:
    """(seconds, bytes of its own, bytes resident with all of the files' pages) of a sampler a slide."""
    process = psutil.Process()
    before, started = process.memory_info(), time.perf_counter()
    samplers = [PatchSampler(store.load_map(entry.file)) for entry in entries]
    seconds, opened = time.perf_counter() - started, process.memory_info()
    for sampler in samplers:
        np.asarray(sampler.map.codes).max()
    touched = process.memory_info()
    own = (opened.rss - opened.shared) - (before.rss - before.shared)
    return seconds, own, touched.rss - before.rss


def draw_all(store: MapStore, slides: list[TrainingSlide]) -> float:
    """Seconds to draw a round's patches one by one, as the data set does."""
    items = STEPS_PER_ROUND * BATCH
    data = DynamicPatchDataset(
        slides, store, length=items, patch_size=256, mpp=1.0, items_per_round=items, shuffle_buffer=256, seed=0,
        draw_from="all",
    )  # fmt: skip
    started = time.perf_counter()
    for i in range(items, 2 * items):  # round 1, from the maps of round 0
        data.draw(i)
    return time.perf_counter() - started


def rounds_of(slides: list[TrainingSlide], entries: list, epochs: int = 24) -> tuple[float, float]:
    """(seconds to choose a round's slides, epochs that a normal slide waited at most)."""
    labels = [slide.label for slide in slides]
    sampler = SlideSampler(labels, SLIDES_PER_ROUND, EPOCHS_UNMAPPED, seed=0)
    last, waited, seconds = np.full(len(labels), -1), 0, 0.0
    rounds = epochs * sampler.rounds_per_epoch
    for t in range(rounds):
        started = time.perf_counter()
        chosen = sampler.choose(t, last, [entry.sum_q for entry in entries])
        seconds += time.perf_counter() - started
        waited = max(waited, int((t - last[chosen]).max()))
        last[chosen] = t
    return seconds / rounds, waited / sampler.rounds_per_epoch


if __name__ == "__main__":
    main()
