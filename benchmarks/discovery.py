"""What discovery finds, against slides, burden and features: virtual slides put together from a cohort's own tissue.

    python benchmarks/discovery.py --cohort GLANDS --mpp 2.2 --tile 102 --windows windows.npz [--encoder FOLDER]

The windows of all training slides are described once and kept in --windows. A virtual slide is --tiles squares of
tissue, --tile model pixels a side, drawn from all slides' benign tissue; a malignant one has some from outlined tumour,
at least one. So burden and number of slides can be chosen freely. What is optimistic about it: squares are used again,
and real slides differ from each other as wholes (stain, scanner), which these do not.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.mapping.discovery import discriminant, tissue_kinds
from wsi_hf.mapping.discovery.finders import finder_of
from wsi_hf.mapping.discovery.tissue_kinds import BLOCK_PX, background, texture
from wsi_hf.mapping.discovery.tissue_statistics import MARGIN_BLOCKS, statistics
from wsi_hf.slides.annotations import rasterize, read_asap
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue import find_tissue

TUMOUR = 0.3
"""Share of a window's middle that is outlined where it counts as tumour."""
WINDOWS_A_TILE = 4
LOOKED_AT = 16
"""Slides that an encoder's principal components are computed from."""
FINDERS = {
    "kinds": tissue_kinds.malignancy, "discriminant": discriminant.malignancy, "encoder": discriminant.malignancy,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--windows", type=Path, required=True, help="where the description lies or is to lie (NPZ)")
    parser.add_argument("--mpp", type=float, default=2.2)
    parser.add_argument("--tile", type=int, default=102, help="side of a square of tissue, in model pixels")
    parser.add_argument("--tiles", type=int, default=300, help="squares a virtual slide")
    parser.add_argument("--slides", type=int, nargs="+", default=[30, 60, 135], help="of each class")
    parser.add_argument("--burden", type=float, nargs="+", default=[0.1, 0.03, 0.01, 0.003])
    parser.add_argument("--finders", nargs="+", default=["kinds", "discriminant"], choices=list(FINDERS))
    parser.add_argument("--encoder", help="pre-trained encoder, folder or repository, for the finder of this name")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not arguments.windows.exists():
        np.savez(arguments.windows, **described(arguments.cohort, arguments.mpp, arguments.tile, arguments.encoder))
    windows = dict(np.load(arguments.windows))
    print("| finder | slides | burden | found | of the windows found, tumour | of the tumour, found | first patches |")
    print("|---|---|---|---|---|---|---|")
    for finder in arguments.finders:
        for slides in arguments.slides:
            for burden in arguments.burden:
                rng = np.random.default_rng(arguments.seed)
                members, labels = virtual_slides(windows, slides, arguments.tiles, burden, rng)
                q, found = FINDERS[finder](features_of(windows, finder, members), labels, arguments.seed)
                facts = judged(q, [windows["tumour"][m] > TUMOUR for m in members], labels) if found else "| - | - | -"
                print(
                    f"| {finder} | {slides} + {slides} | {burden:.1%} | {'yes' if found else 'no'} {facts} |",
                    flush=True,
                )


def described(cohort: Path, mpp: float, tile: int, encoder: str | None) -> dict[str, np.ndarray]:
    """All descriptions of every window on tissue, its share of tumour, and the square of its slide that it lies in."""
    parts: dict[str, list[np.ndarray]] = {"kinds": [], "discriminant": [], "tumour": [], "tile": []}
    rows = [row for row in load_cohort(cohort) if row["split"] == "train"]
    margin, seen = MARGIN_BLOCKS * BLOCK_PX, finder_of("discriminant", mpp, encoder) if encoder else None
    if seen:
        seen.look_at(lambda: (pixels_of(row, mpp, margin, seen.zoom) for row in tqdm(rows[:LOOKED_AT], unit="slide")))
        parts["encoder"] = []
    for number, row in enumerate(tqdm(rows, unit="slide")):
        pixels, slide = pixels_of(row, mpp, margin), Slide(row["path"], mpp=row["mpp"])
        height, width = (side - 2 * margin for side in pixels.shape[:2])
        inside = _blocks(_resized(find_tissue(slide, 8.0), (height, width)).astype(float), 1) > 0.5
        outlined = (
            rasterize(read_asap(row["annotation"]), (height, width), mpp / slide.mpp) if row["annotation"] else None
        )
        tumour = np.zeros(inside.shape) if outlined is None else _blocks(outlined.astype(float), 3)
        inner = margin - BLOCK_PX
        parts["kinds"].append(texture(pixels[inner:-inner, inner:-inner]).numpy()[inside].astype(np.float16))
        parts["discriminant"].append(statistics(pixels).numpy()[inside].astype(np.float16))
        if seen:
            fine = pixels_of(row, mpp, margin, seen.zoom)
            parts["encoder"].append(seen.describe(fine).numpy()[inside].astype(np.float16))
        parts["tumour"].append(tumour[inside])
        place = np.argwhere(inside) * BLOCK_PX // tile
        parts["tile"].append(number * 1_000_000 + place[:, 0] * 1000 + place[:, 1])
    return {name: np.concatenate(values) for name, values in parts.items()}


def pixels_of(row: dict, mpp: float, margin: int, zoom: int = 1) -> torch.Tensor:
    """Whole blocks of a slide with a margin, `zoom` times as large as at an mpp, uint8 (H, W, 3)."""
    slide = Slide(row["path"], mpp=row["mpp"])
    width, height = (zoom * (n // BLOCK_PX * BLOCK_PX + 2 * margin) for n in slide.size_px(mpp))
    corner = -zoom * margin, -zoom * margin
    return torch.from_numpy(slide.read_region_px(corner, (width, height), mpp / zoom))


def virtual_slides(
    windows: dict[str, np.ndarray], slides: int, tiles: int, burden: float, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Which windows make up each slide, and the slides' labels."""
    order = np.argsort(windows["tile"], kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(windows["tile"][order])) + 1)
    groups = [group for group in groups if len(group) >= 2 * WINDOWS_A_TILE]
    most = np.array([(windows["tumour"][group] > TUMOUR).mean() for group in groups])
    none = np.array([windows["tumour"][group].max() == 0 for group in groups])
    benign, malignant = np.flatnonzero(none), np.flatnonzero(most > 0.3)
    labels = np.arange(2 * slides) % 2
    members = []
    for label in labels:
        count = label * max(1, rng.binomial(tiles, burden))
        chosen = [*rng.choice(benign, tiles - count), *rng.choice(malignant, count)]
        members.append(np.concatenate([rng.choice(groups[c], WINDOWS_A_TILE) for c in chosen]))
    return members, labels


def features_of(windows: dict[str, np.ndarray], finder: str, members: list[np.ndarray]) -> list[np.ndarray]:
    features = [windows[finder][m] for m in members]
    return [f - np.median(f, axis=0) for f in features] if finder == "kinds" else features


def judged(q: list[np.ndarray], tumour: list[np.ndarray], labels: np.ndarray) -> str:
    """Means over malignant slides: precision and recall of the windows found, share of first patches on tumour."""
    malignant = np.flatnonzero(labels)
    elsewhere = background(q, labels, alpha=8.0)
    found = [(q[s] > 0.5, tumour[s]) for s in malignant]
    weights = [np.where(q[s] > 0.5, q[s], elsewhere).astype(float) ** 8 for s in malignant]
    precision = np.mean([t[f].mean() for f, t in found if f.any()])
    recall = sum((f & t).sum() for f, t in found) / sum(t.sum() for _, t in found)
    drawn = np.mean([w[t].sum() / w.sum() for w, (_, t) in zip(weights, found, strict=True)])
    return f"| {precision:.2f} | {recall:.2f} | {drawn:.2f}"


def _blocks(values: np.ndarray, window: int) -> np.ndarray:
    """Means over blocks, then over so many blocks to a side."""
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(values)[None, None], BLOCK_PX)
    return torch.nn.functional.avg_pool2d(pooled, window, 1, window // 2)[0, 0].numpy()


def _resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.arange(n) * m // n for n, m in zip(shape, mask.shape, strict=True))
    return mask[rows[:, None], columns]


if __name__ == "__main__":
    main()
