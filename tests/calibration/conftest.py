"""A network that calls dark pixels malignant, and a cohort of drawn slides whose darkest spots tell their label."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_hf import WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation

TISSUE, SPOT = np.array([225, 165, 205]), np.array([110, 60, 140])


def dark_model() -> WsiUNetForSegmentation:
    """A U-Net whose margin is 12 times a pixel's darkness in normalised colours: confident, and wrong about 0.5."""
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=1, depth=1)).eval()
    with torch.no_grad():
        for block in (model.unet.encoder[0], model.unet.decoder[0]):
            block.conv2[2].weight.zero_()  # nothing but the shortcut
        model.unet.encoder[0].shortcut.weight.fill_(-1 / 3)
        model.unet.decoder[0].shortcut.weight.copy_(torch.tensor([0.0, 1.0])[None, :, None, None])  # the lateral skip
        model.classifier.weight.copy_(torch.tensor([0.0, 12.0])[:, None, None, None])
        model.classifier.bias.copy_(torch.tensor([0.0, -1.0]))
    return model


def draw(rng: np.random.Generator, spots: list[tuple[float, float]]) -> np.ndarray:
    """128 x 128 px of tissue with round spots: (radius in px, darkness from 0 to 1)."""
    picture = np.full((128, 128, 3), TISSUE, float)
    y, x = np.mgrid[:128, :128]
    for radius, darkness in spots:
        inside = np.hypot(x - rng.uniform(30, 98), y - rng.uniform(30, 98)) < radius
        picture[inside] = TISSUE + darkness * (SPOT - TISSUE)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def write_cohort(folder: Path, n: int, seed: int = 0) -> Path:
    """A CSV table of n + n slides: malignant ones have a dark spot, benign ones a paler and smaller one."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    with open(folder / "slides.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "mpp"])
        for number in range(n):
            for label, spot in (("benign", (6, rng.uniform(0.3, 0.55))), ("malignant", (14, rng.uniform(0.5, 1.0)))):
                name = f"{label}_{number}.png"
                Image.fromarray(draw(rng, [spot])).save(folder / name)
                table.writerow([name, label, 1.0])
    return folder / "slides.csv"


@pytest.fixture(scope="session")
def local_slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("local") / "cohort", 10)


@pytest.fixture
def dark_folder(tmp_path: Path) -> Path:
    dark_model().save_pretrained(tmp_path / "model")
    WsiImageProcessor().save_pretrained(tmp_path / "model")
    return tmp_path / "model"
