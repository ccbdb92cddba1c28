"""Segment a slide with another package, in that package's own environment; `slide_inference.py` runs this.

    PYTHON benchmarks/peer_inference.py {tiatoolbox,lazyslide} SLIDE NETWORK.pt OUT [--mpp] [--threads] [--dtype]

Prints one line of JSON: the package's version, seconds, CPU seconds, and the largest difference in P(malignant) to one
forward pass of the same network over the whole slide, as the same package reads it. Both tile as their users do:
patches of 512 px, 320 px apart, tissue or not; tiatoolbox averages where they overlap, LazySlide weighs by a Gaussian.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

PATCH, STRIDE, BATCH = 512, 320, 4
MODEL_MPP = 1.0
SURROUNDINGS = 96
"""White pixels round the slide in the one pass; the network reaches no further."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=("tiatoolbox", "lazyslide"))
    parser.add_argument("slide", type=Path)
    parser.add_argument("network", type=Path, help="TorchScript: RGB (B, 3, H, W), 0..255 -> logits (B, 2, H, W)")
    parser.add_argument("out", type=Path, help="folder for what the package writes; must not exist")
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    declare_vision_operators()
    network = Probabilities(torch.jit.load(options.network), getattr(torch, options.dtype)).eval()
    segment = with_tiatoolbox if options.package == "tiatoolbox" else with_lazyslide
    run, read_whole = segment(network, options.slide, options.mpp, options.out)
    wall, cpu = time.perf_counter(), time.process_time()
    version, malignant = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    whole = one_pass(network, read_whole())
    height, width = (min(a, b) for a, b in zip(whole.shape, malignant.shape, strict=True))
    difference = np.abs(whole[:height, :width] - malignant[:height, :width])
    print(json.dumps({"version": version, "seconds": wall, "cpu_seconds": cpu, "error": float(difference.max())}))


class Probabilities(nn.Module):
    """RGB (B, 3, H, W), 0..255 -> probabilities (B, 2, H, W)."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, rgb: Tensor) -> Tensor:
        return self.network(rgb.to(self.dtype)).float().softmax(1)


Segment = tuple[Callable[[], tuple[str, np.ndarray]], Callable[[], np.ndarray]]
"""(segment the slide: version and P(malignant) (H, W); read it whole: uint8 (H, W, 3))."""


def with_tiatoolbox(network: Probabilities, slide: Path, mpp: float | None, out: Path) -> Segment:
    import tiatoolbox
    import zarr
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC
    from tiatoolbox.wsicore.wsireader import WSIReader

    class Model(ModelABC):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, rgb: Tensor) -> Tensor:
            return self.network(rgb)

        @staticmethod
        def infer_batch(model: nn.Module, batch_data: Tensor, *, device: str) -> np.ndarray:
            with torch.inference_mode():
                return model(batch_data.to(device).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()

    resolution = [{"units": "mpp", "resolution": MODEL_MPP}]
    config = IOSegmentorConfig(
        input_resolutions=resolution,
        output_resolutions=resolution,
        patch_input_shape=(PATCH, PATCH),
        patch_output_shape=(PATCH, PATCH),
        stride_shape=(STRIDE, STRIDE),
        save_resolution=resolution[0],
    )
    reader = WSIReader.open(slide, mpp=(mpp, mpp) if mpp else None)

    def run() -> tuple[str, np.ndarray]:
        segmentor = SemanticSegmentor(Model(), batch_size=BATCH, device="cpu", verbose=False)
        written = segmentor.run(
            [reader],
            patch_mode=False,
            ioconfig=config,
            save_dir=out,
            output_type="zarr",
            return_probabilities=True,
            auto_get_mask=False,
        )
        store = zarr.open(str(next(iter(written.values()))), mode="r")
        return tiatoolbox.__version__, np.asarray(store["probabilities"])[..., 1]

    return run, lambda: np.asarray(reader.slide_thumbnail(**resolution[0]))


def with_lazyslide(network: Probabilities, slide: Path, mpp: float | None, out: Path) -> Segment:
    import lazyslide
    from lazyslide.segmentation._seg_runner import SemanticSegmentationRunner
    from wsidata import open_wsi

    class Model:
        def to(self, device: str) -> "Model":
            return self

        def get_transform(self) -> Callable[[np.ndarray], Tensor]:
            return lambda image: torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)

        def segment(self, images: Tensor) -> SimpleNamespace:
            return SimpleNamespace(probability_map=network(images))

    joined: list[np.ndarray] = []  # the map, which LazySlide itself goes on to outline and drops
    tiler = SemanticSegmentationRunner.tiler

    def keep(array: np.ndarray, tile_size: int = 512):
        joined.append(array)
        return tiler(array, tile_size)

    SemanticSegmentationRunner.tiler = staticmethod(keep)
    wsi = open_wsi(str(slide), store=str(out), **({"mpp": mpp} if mpp else {}))

    def run() -> tuple[str, np.ndarray]:
        lazyslide.pp.tile_tissues(
            wsi, PATCH, stride_px=STRIDE, mpp=MODEL_MPP, edge=True, background_filter=False, tissue_key=None
        )
        lazyslide.seg.semantic(wsi, Model(), batch_size=BATCH, num_workers=0, device="cpu", pbar=False)
        return lazyslide.__version__, joined[-1][1]

    def read_whole() -> np.ndarray:
        spec, (height, width) = wsi.tile_spec("tiles"), wsi.properties.shape
        region = wsi.reader.get_region(0, 0, width=width, height=height, level=0)
        size = [int(width / spec.base_downsample), int(height / spec.base_downsample)]
        return wsi.reader.resize_img(region, dsize=size)

    return run, read_whole


def one_pass(network: Probabilities, rgb: np.ndarray) -> np.ndarray:
    """P(malignant) of one forward pass over the slide with white round it, (H, W)."""
    height, width = rgb.shape[:2]
    below = SURROUNDINGS + -height % 16, SURROUNDINGS + -width % 16
    padded = np.pad(rgb, ((SURROUNDINGS, below[0]), (SURROUNDINGS, below[1]), (0, 0)), constant_values=255)
    with torch.inference_mode():
        p = network(torch.from_numpy(padded).permute(2, 0, 1)[None])[0, 1]
    return p[SURROUNDINGS : SURROUNDINGS + height, SURROUNDINGS : SURROUNDINGS + width].numpy()


def declare_vision_operators() -> None:
    """Let torchvision be imported where its compiled half does not fit this torch; nothing here calls it."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            library.define(name + boxes)
        declare_vision_operators.library = library  # type: ignore[attr-defined]  # lives as long as the process


if __name__ == "__main__":
    main()
