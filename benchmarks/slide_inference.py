"""How fast a slide is segmented, against the bare network, and how exact the seams are.

    python benchmarks/slide_inference.py SLIDE [--mpp 0.25] [--threads 1] [--dtype float32 bfloat16] [--tile-sizes ...]

A: bare forward passes of the model over the very tiles used, margins included, already in memory, channels last.
B: every pixel computed once, no margins, in the best of several tile sizes, batch-norm folded: the physical limit.
C: `segment_slide`, from the file to the map on disk. Its error is the largest logit difference to one forward pass of
the model over the whole slide in the same precision; the logits' own standard deviation stands beside it.

Without --model: an untrained network of the paper's size, 32 filters, depth 4, its batch-norms fed from the slide.
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from wsi_hf import Slide, WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation, segment_slide
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.piecewise import fold_batch_norm
from wsi_hf.inference.reading import TileReader
from wsi_hf.inference.segmentation import stream_tiles
from wsi_hf.inference.tiling import TileGrid

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
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
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
    error = f"{seam_error(network, slide, tile_size, whole):.1e} of {float(whole.std()):.1g}"
    return [
        (f"A  bare forwards, {len(tiles)} tiles with margins", a, ""),
        (f"B  every pixel once, tiles of {best}", b, ""),
        (f"C  segment_slide: {a / c:.2f} of A, {b / c:.2f} of B", c, error),
        ("   of which reading and computing", stream, error),
    ]


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
