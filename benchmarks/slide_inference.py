"""How fast a slide is segmented, against the bare network, and how exact the seams are.

    python benchmarks/slide_inference.py SLIDE [--mpp 0.25] [--threads 1] [--dtype float32 bfloat16] [--tile-sizes ...]
        [--tiatoolbox PYTHON] [--lazyslide PYTHON]

A: bare forward passes of the model over the very tiles used, margins included, already in memory, channels last.
B: every pixel computed once, no margins, in the best of several tile sizes, batch-norm folded: the physical limit.
C: `segment_slide`, from the file to the map on disk. Its error is the largest logit difference to one forward pass of
the model over the whole slide in the same precision; the logits' own standard deviation stands beside it.

D, E: tiatoolbox and LazySlide with the same weights, each run by the Python of its own environment, as its users would
(`peer_inference.py`); their error is in P(malignant). tiatoolbox 2.1.3 asks for an older torch than this package's:
`pip install --no-deps tiatoolbox==2.1.3`, then its other requirements, puts both on the same torch.

Without --model: an untrained network of the paper's size, 32 filters, depth 4, its batch-norms fed from the slide.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_hf import Slide, WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation, segment_slide
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.piecewise import fold_batch_norm
from wsi_hf.inference.reading import TileReader
from wsi_hf.inference.tiling import TileGrid
from wsi_hf.segmentation.segmentation import stream_tiles

Row = tuple[str, float, str]
clock = time.perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--model", help="folder of a trained model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--tile-size", type=int, default=1024)
    parser.add_argument(
        "--tile-sizes", type=int, nargs="*", default=[], help="print seconds a megapixel for these, too"
    )
    parser.add_argument("--tiatoolbox", metavar="PYTHON", help="of an environment with tiatoolbox")
    parser.add_argument("--lazyslide", metavar="PYTHON", help="of an environment with LazySlide")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts (the peers run once)")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of CPU, for a machine that is shared")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    global clock
    clock = time.process_time if options.cpu_time else time.perf_counter
    slide, processor = Slide(options.slide, options.mpp), WsiImageProcessor()
    model = load_or_make(options.model, slide, processor)
    megapixels = slide.size_px(processor.mpp)[0] * slide.size_px(processor.mpp)[1] / 1e6
    print(f"{slide.slide_id}: {megapixels:.2f} Mpx at {processor.mpp} um/px, {options.threads} thread(s)")
    for name in options.dtype:
        dtype = getattr(torch, name)
        print(f"\n{name:44} seconds  s/Mpx   error", flush=True)
        for what, seconds, error in compare(model, slide, processor, dtype, options.tile_size, options.repeats):
            print(f"{what:44} {seconds:7.2f} {seconds / megapixels:6.2f}   {error}", flush=True)
        for letter, package in (("D", "tiatoolbox"), ("E", "lazyslide")):
            if python := getattr(options, package):
                found = peer(python, package, model, slide, processor, options, name)
                seconds = found["cpu_seconds" if options.cpu_time else "seconds"]
                what = f"{letter}  {package} {found['version']}"
                print(f"{what:44} {seconds:7.2f} {seconds / megapixels:6.2f}   {found['error']:.1e} in P", flush=True)
        for size in options.tile_sizes:
            network = PixelNetwork(model, processor, dtype=dtype)
            seconds = fastest(lambda n=network, s=size: drain(n, slide, s), options.repeats)
            print(f"{f'   stream_tiles, tiles of {size}':44} {seconds:7.2f} {seconds / megapixels:6.2f}")


def compare(
    model: WsiUNetForSegmentation,
    slide: Slide,
    processor: WsiImageProcessor,
    dtype: torch.dtype,
    tile_size: int,
    repeats: int,
) -> list[Row]:
    """Floors A and B and `segment_slide` on one slide: (what, seconds, seam error in logits)."""
    network = PixelNetwork(model, processor, dtype=dtype)
    grid = TileGrid.cover(slide.size_px(processor.mpp), tile_size, network.alignment)
    size, margin = tuple(side + 2 * network.margin for side in grid.tile_px), network.margin
    corners = [(tile.x_px - margin, tile.y_px - margin) for tile in grid.tiles()]
    tiles = [to_input(slide.read_region_px(corner, size, processor.mpp), processor, dtype) for corner in corners]
    plain = copy.deepcopy(model).to(dtype).to(memory_format=torch.channels_last)
    folded = fold_batch_norm(model).to(dtype).to(memory_format=torch.channels_last)
    whole = whole_slide(model, slide, processor, dtype)
    a = fastest(lambda: [bare(plain, x) for x in tiles], repeats)
    b, best = min((once(folded, tiles[0], grid, side, repeats), side) for side in (64, 128, 256, 512))
    c = fastest(lambda: segment_slide(network, slide, tissue=None, tile_size=tile_size), repeats)
    stream = fastest(lambda: drain(network, slide, tile_size), repeats)
    compiled = PixelNetwork(model, processor, dtype=dtype, compiled=True)
    first = fastest(lambda: segment_slide(compiled, slide, tissue=None, tile_size=tile_size), 1)
    d = fastest(lambda: segment_slide(compiled, slide, tissue=None, tile_size=tile_size), repeats)
    error = f"{seam_error(network, slide, tile_size, whole):.1e} of {float(whole.std()):.1g}"
    return [
        (f"A  bare forwards, {len(tiles)} tiles with margins", a, ""),
        (f"B  every pixel once, tiles of {best}", b, ""),
        (f"C  segment_slide: {a / c:.2f} of A, {b / c:.2f} of B", c, error),
        ("   of which reading and computing", stream, error),
        (f"   compiled ({first:.0f} s the first time): {b / d:.2f} of B", d, ""),
    ]


class RgbToLogits(nn.Module):
    """The model as one module from RGB, 0..255, to logits, for packages that know nothing of its processor."""

    def __init__(self, model: WsiUNetForSegmentation, processor: WsiImageProcessor) -> None:
        super().__init__()
        self.unet, self.classifier = model.unet, model.classifier
        for name in ("image_mean", "image_std"):
            self.register_buffer(name, 255 * torch.tensor(getattr(processor, name)).view(1, 3, 1, 1))

    def forward(self, rgb: Tensor) -> Tensor:
        return self.classifier(self.unet((rgb - self.image_mean) / self.image_std).last_hidden_state)


def peer(
    python: str,
    package: str,
    model: WsiUNetForSegmentation,
    slide: Slide,
    processor: WsiImageProcessor,
    options: argparse.Namespace,
    dtype: str,
) -> dict:
    """Run another package in its own environment; what `peer_inference.py` prints."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        network = Path(folder) / "network.pt"
        example = torch.zeros(1, 3, 128, 128)
        torch.jit.trace(RgbToLogits(model, processor).eval(), example, check_trace=False).save(network)
        command = [python, Path(__file__).with_name("peer_inference.py"), package, slide.path, network]
        command += [Path(folder) / "out", "--threads", options.threads, "--dtype", dtype]
        command += ["--mpp", options.mpp] if options.mpp else []
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{package} failed")
    return json.loads(done.stdout.splitlines()[-1])


def bare(model: WsiUNetForSegmentation, x: Tensor) -> Tensor:
    """Logits without the slide head."""
    with torch.inference_mode():
        return model.classifier(model.unet(x).last_hidden_state)


def once(model: WsiUNetForSegmentation, tile: Tensor, grid: TileGrid, side: int, repeats: int) -> float:
    """Seconds to compute as many pixels as the slide has in tiles of one side, from memory, without margins."""
    x = tile[:, :, :side, :side].contiguous(memory_format=torch.channels_last)
    count = max(1, round(grid.size_px[0] * grid.size_px[1] / side**2))
    return (
        fastest(lambda: [bare(model, x) for _ in range(count)], repeats)
        * grid.size_px[0]
        * grid.size_px[1]
        / (count * side**2)
    )


def drain(network: PixelNetwork, slide: Slide, tile_size: int) -> None:
    for _ in stream_tiles(network, slide, tissue=None, tile_size=tile_size):
        pass


def whole_slide(
    model: WsiUNetForSegmentation, slide: Slide, processor: WsiImageProcessor, dtype: torch.dtype
) -> Tensor:
    """One forward pass over the slide, padded with white."""
    margin, align, (width, height) = model.config.margin, model.config.alignment, slide.size_px(processor.mpp)
    grid = TileGrid((width, height), (width + -width % align, height + -height % align))
    pixels = TileReader(slide, grid, margin, processor.mpp).read(grid.tile(0)).pixels
    x = to_input(pixels, processor, dtype)
    return bare(copy.deepcopy(model).to(dtype), x)[0, :, margin : margin + height, margin : margin + width].float()


def seam_error(network: PixelNetwork, slide: Slide, tile_size: int, whole: Tensor) -> float:
    worst = 0.0
    for tile in stream_tiles(network, slide, tissue=None, tile_size=tile_size):
        height, width = tile.logits.shape[1:]
        there = whole[:, tile.y_px : tile.y_px + height, tile.x_px : tile.x_px + width]
        worst = max(worst, float((tile.logits - there).abs().max()))
    return worst


def to_input(pixels, processor: WsiImageProcessor, dtype: torch.dtype) -> Tensor:
    x = processor.normalize_batch(torch.from_numpy(pixels.copy())[None])
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def fastest(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def load_or_make(path: str | None, slide: Slide, processor: WsiImageProcessor) -> WsiUNetForSegmentation:
    """A trained model, or one whose batch-norms have at least seen the slide."""
    if path:
        return WsiUNetForSegmentation.from_pretrained(path).eval()
    torch.manual_seed(0)
    model = WsiUNetForSegmentation(WsiUNetConfig()).train()
    width, height = slide.size_px(processor.mpp)
    with torch.no_grad():
        for i in range(20):
            corner = (width * (i % 4 + 1) // 6, height * (i // 4 + 1) // 7)
            model(to_input(slide.read_region_px(corner, (128, 128), processor.mpp), processor, torch.float32))
    return model.eval()


if __name__ == "__main__":
    main()
