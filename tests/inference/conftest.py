"""Small networks with batch-norm statistics of their own, and slides drawn on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_hf import Slide, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.inference.network import PixelNetwork


def tiny_model(depth: int = 2, filters: int = 4, seed: int = 0, **settings) -> WsiUNetForSegmentation:
    """A network whose batch-norms have seen data, so that folding them is worth testing."""
    torch.manual_seed(seed)
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=filters, depth=depth, **settings)).train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(2, 3, 64, 64))
        model.classifier.weight.mul_(4)
    return model.eval()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (H, W, 3), coarse and fine noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (height // 16 + 1, width // 16 + 1, 3)).repeat(16, 0).repeat(16, 1)[:height, :width]
    return (coarse + rng.integers(0, 55, (height, width, 3))).astype(np.uint8)


def write_slide(path: Path, pixels: np.ndarray, mpp: float = 1.0) -> Slide:
    Image.fromarray(pixels).save(path)
    return Slide(path, mpp)


@pytest.fixture(scope="session")
def model() -> WsiUNetForSegmentation:
    return tiny_model()


@pytest.fixture
def noise_slide(tmp_path: Path) -> Callable[..., Slide]:
    """noise_slide(width, height, mpp=1.0) -> a slide of noise."""

    def make(width: int, height: int, mpp: float = 1.0) -> Slide:
        return write_slide(tmp_path / f"noise_{width}x{height}.png", noise(height, width), mpp)

    return make


def whole_slide_logits(model: WsiUNetForSegmentation, slide: Slide, processor) -> torch.Tensor:
    """One forward pass of the model itself over the whole slide, padded with white: (2, H, W)."""
    margin, align = model.config.margin, model.config.alignment
    width, height = slide.size_px(processor.mpp)
    size = (width + -width % align + 2 * margin, height + -height % align + 2 * margin)
    pixels = torch.from_numpy(slide.read_region_px((-margin, -margin), size, processor.mpp).copy())
    with torch.inference_mode():
        logits = model(pixel_values=processor.normalize_batch(pixels[None])).logits[0]
    return logits[:, margin : margin + height, margin : margin + width]


def stitched(tiles, size_px: tuple[int, int]) -> torch.Tensor:
    """The tiles of a stream in one tensor (2, H, W); NaN where there is none."""
    out = torch.full((2, size_px[1], size_px[0]), torch.nan)
    for tile in tiles:
        height, width = tile.logits.shape[1:]
        out[:, tile.y_px : tile.y_px + height, tile.x_px : tile.x_px + width] = tile.logits
    return out


class DarkNetwork(PixelNetwork):
    """Calls every dark pixel malignant, exactly: what comes out where is known."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        m = self.margin
        dark = pixels[:, m : pixels.shape[1] - m, m : pixels.shape[2] - m].float().mean(-1) < 128
        margin = torch.where(dark, 5.0, -5.0)
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


@pytest.fixture(scope="session")
def dark_network(model: WsiUNetForSegmentation) -> DarkNetwork:
    return DarkNetwork(model)
