"""How long CAMELYON16 takes on 1 to 64 GPUs: reading, drawing, mapping and training measured on a slide of its size.

    python benchmarks/camelyon16_hours.py SLIDE [--tflops 15 | --gpu_mpx_per_s 60 --gpu_patches_per_s 1500]

Reading and drawing are CPU seconds of this machine, of single tiles and patches of SLIDE. What a GPU takes is measured
where there is one, else given, else *assumed*: the network's multiplications at --tflops achieved, which is far below
any data sheet, for separable convolutions wait for memory. 20,000 steps of 32 patches a GPU, 200 rounds of 16 slides.
More GPUs that train make the batch larger, not the hours fewer; more that map do. Hours leave out start, evaluation,
and rounds that do not balance.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wsi_hf import Slide, WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation, find_tissue
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.reading import TileReader
from wsi_hf.inference.streaming import parts
from wsi_hf.inference.tiling import TileGrid

TILE, PATCH, STRIDE = 512, 256, 8
STEPS, STEPS_PER_ROUND, BATCH, SLIDES_PER_ROUND = 20_000, 100, 32, 16  # recipe "paper"


@dataclass(frozen=True)
class Rates:
    """CPU seconds of reading a megapixel and a patch; megapixels mapped and patches trained a second of one GPU."""

    read_s: float
    patch_s: float
    mapped: float
    trained: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--mpx", type=float, default=157.0, help="megapixels mapped of a slide on average")
    parser.add_argument("--tflops", type=float, default=15.0, help="assumed of one GPU, achieved")
    parser.add_argument("--gpu_mpx_per_s", type=float)
    parser.add_argument("--gpu_patches_per_s", type=float)
    parser.add_argument("--cores_per_gpu", type=int, default=8)
    parser.add_argument("--tiles", type=int, default=40, help="tiles and patches that are read")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rates = measure(args)
    print(f"\nCPU seconds: {rates.read_s:.3f} to read a megapixel, {1e3 * rates.patch_s:.1f} ms to read a patch.")
    print(f"One GPU: {rates.mapped:.0f} Mpx mapped, {rates.trained:.0f} patches trained a second.")
    print(f"A GPU that maps needs {rates.read_s * rates.mapped:.1f} cores that read, one that trains ", end="")
    print(f"{rates.patch_s * rates.trained:.1f} data workers.\n")
    print("| GPUs | nodes | train | map | hours | bottleneck | GPU time used |\n|---|---|---|---|---|---|---|")
    for gpus in (1, 2, 4, 8, 16, 32, 64):
        print(row(gpus, rates, args.mpx, args.cores_per_gpu))
    print(f"\nCAMELYON16, 20,000 steps, 8 GPUs: {best(8, rates, args.mpx, args.cores_per_gpu)[0]:.1f} hours")


def measure(args: argparse.Namespace) -> Rates:
    slide, network = Slide(args.slide), the_network()
    tissue = find_tissue(slide)
    grid = TileGrid.cover(slide.size_px(1.0), TILE, math.lcm(network.alignment, STRIDE))
    found = parts(network, grid, tissue)
    computed = sum(part.width_px * part.height_px for part in found)
    share = sum(grid.tissue_of(part, tissue).sum() for part in found) / computed
    print(f"{slide.slide_id}: {computed / 1e6:.0f} Mpx to compute in {len(found)} tiles, {share:.1%} of them tissue")
    some = found[len(found) // 2 :][: args.tiles]
    reader = TileReader(slide, grid, network.margin, 1.0, some, network.alignment)
    pixels = sum(part.width_px * part.height_px for part in some) / 1e6
    read_s = cpu_seconds(lambda: [reader.read(part) for part in some]) / pixels
    cells, rng = np.argwhere(tissue), np.random.default_rng(0)
    centres = (cells[rng.integers(len(cells), size=args.tiles)][:, ::-1] + 0.5) * 8 / slide.mpp
    patch_s = cpu_seconds(lambda: [slide.read_patch((x, y), PATCH, 1.0) for x, y in centres]) / args.tiles
    mapped, trained = gpu_rates() if torch.cuda.is_available() else assumed(network, args.tflops)
    return Rates(read_s, patch_s, args.gpu_mpx_per_s or mapped, args.gpu_patches_per_s or trained)


def the_network(device: str = "cpu") -> PixelNetwork:
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return PixelNetwork(WsiUNetForSegmentation(WsiUNetConfig()), WsiImageProcessor(mpp=1.0), device, dtype)


def assumed(network: PixelNetwork, tflops: float) -> tuple[float, float]:
    """Megapixels mapped and patches trained a second, from counted multiplications; a step is three forward passes."""
    assert network._unet is not None
    large, tile = (float(network._unet.products(np.array(n), np.array(n))) / n**2 for n in (8192, TILE))
    print(
        f"Assumed {tflops:g} TFLOP/s: {2 * tile / 1e3:.0f} kFLOP a pixel mapped in tiles, {6 * large / 1e3:.0f} trained"
    )
    return tflops * 1e6 / (2 * tile), tflops * 1e12 / (6 * large * PATCH**2)


def gpu_rates() -> tuple[float, float]:
    network, model = the_network("cuda"), WsiUNetForSegmentation(WsiUNetConfig()).cuda()
    side = TILE + 2 * network.margin
    pixels = torch.randint(0, 256, (16, side, side, 3), dtype=torch.uint8, device="cuda")
    batch, labels = torch.rand(BATCH, 3, PATCH, PATCH, device="cuda"), torch.arange(BATCH, device="cuda") % 2

    def train() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(pixel_values=batch.contiguous(memory_format=torch.channels_last), labels=labels).loss
        loss.backward()
        torch.cuda.synchronize()

    def seconds(work) -> float:
        work()
        started = time.perf_counter()
        for _ in range(5):
            work()
        return (time.perf_counter() - started) / 5

    return 16 * TILE**2 / 1e6 / seconds(lambda: float(network(pixels).sum())), BATCH / seconds(train)


def best(gpus: int, rates: Rates, mpx: float, cores_per_gpu: int) -> tuple[float, int, str, float]:
    """(hours, GPUs that map, what they wait for, share of GPU time used) of the best way to share out the GPUs."""
    rounds, found = STEPS / STEPS_PER_ROUND, []
    for mapping in range(1, max(2, gpus)):
        training = max(1, gpus - mapping)
        turns = SLIDES_PER_ROUND / min(mapping, SLIDES_PER_ROUND)
        times = {
            "training": STEPS * BATCH / rates.trained,
            "mapping": rounds * turns * mpx / rates.mapped,
            "cores": (rounds * SLIDES_PER_ROUND * mpx * rates.read_s + STEPS * BATCH * training * rates.patch_s)
            / (gpus * cores_per_gpu),
        }
        busy = times["training"] * training + rounds * SLIDES_PER_ROUND * mpx / rates.mapped
        if gpus == 1:
            times = {"the GPU, in turns": times["training"] + times["mapping"], "cores": times["cores"]}
        slowest = max(times, key=lambda part: times[part])
        found.append((times[slowest] / 3600, mapping, slowest, busy / (gpus * times[slowest])))
    return min(found, key=lambda each: (each[0], each[1]))


def row(gpus: int, rates: Rates, mpx: float, cores_per_gpu: int) -> str:
    hours, mapping, slowest, used = best(gpus, rates, mpx, cores_per_gpu)
    return f"| {gpus} | {-(-gpus // 8)} | {max(1, gpus - mapping)} | {mapping} | {hours:.1f} | {slowest} | {used:.0%} |"


def cpu_seconds(work) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
