"""Which threshold finds the tissue: recall and precision on pale mosaics of real glands, and the share of real slides.

    python benchmarks/tissue_rules.py --tiles ebhi_glands.parquet --slides CMU-1-Small-Region.svs 0.499 ...

Real images of colorectal biopsies (column `image` of a parquet table, 1.1 um/px) are laid side by side on noisy
glass, their stain divided by two, three and five, as on faded slides. The truth is where unfaded images are stained.
Two minutes on one core.
"""

import argparse
import io

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from wsi_hf.slides import tissue
from wsi_hf.slides.slide import Slide

MPP, TILE, GRID, EDGE = 8.0, 31, 12, 40
GLASS = np.array((243, 241, 243))
RULES = {
    "Otsu in .03-.08": (0.03, 0.08, None), "Otsu in .03-.04": (0.03, 0.04, None), "fixed .03": (0.03, 0.03, 0.03),
    "fixed .02": (0.02, 0.02, 0.02), ".02 where it touches .04": (0.02, 0.04, 0.02),
}  # fmt: skip


def read_tiles(path: str, seed: int = 1) -> list[np.ndarray]:
    """Tiles of MPP, uint8 (TILE, TILE, 3)."""
    table = pq.read_table(path, columns=["image"])
    rows = table.take(np.random.default_rng(seed).permutation(len(table))[: GRID**2]).to_pylist()
    images = (Image.open(io.BytesIO(row["image"])).convert("RGB") for row in rows)
    return [np.asarray(image.resize((TILE, TILE), Image.Resampling.BOX)) for image in images]


def mosaic(tiles: list[np.ndarray], fading: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A round slide of tiles whose stain is divided by `fading`: the image, its truth, and where the tiles lie."""
    side = GRID * TILE + 2 * EDGE
    image = np.ones((side, side, 3)) * GLASS / 255
    truth, laid = np.zeros((side, side), bool), np.zeros((side, side), bool)
    for number, tile in enumerate(tiles):
        i, j = divmod(number, GRID)
        if (i - GRID / 2 + 0.5) ** 2 + (j - GRID / 2 + 0.5) ** 2 < (GRID / 2) ** 2:
            place = tuple(slice(EDGE + n * TILE, EDGE + (n + 1) * TILE) for n in (i, j))
            image[place] *= (np.maximum(tile, 1) / 255) ** (1 / fading)
            truth[place] = ndimage.gaussian_filter(tissue.stain_density(tile, np.full(3, 250.0)), 1) > 0.04
            laid[place] = True
    noise = np.random.default_rng(0).normal(0, 1.5, image.shape)
    return np.clip(image * 255 + noise, 0, 255).astype(np.uint8), truth, ndimage.binary_dilation(laid, iterations=2)


def found(image: np.ndarray, mpp: float, rule: tuple[float, float, float | None]) -> np.ndarray:
    """The tissue by a rule: (faint, stained) as they stand, or one threshold of Otsu's within two bounds."""
    low, high, faint = rule
    if faint is None:
        density = ndimage.gaussian_filter(tissue.stain_density(image), tissue.SMOOTHING_UM / mpp, truncate=2.0)
        low = high = float(np.clip(threshold_otsu(np.clip(density, 0, 1)), low, high))
    tissue.FAINT, tissue.STAINED = low, high
    return tissue.find_tissue_in(image, mpp)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", required=True)
    parser.add_argument("--slides", nargs="*", default=[], metavar="PATH MPP", help="paths, each with its mpp")
    args = parser.parse_args()
    tiles, fadings = read_tiles(args.tiles), (1, 2, 3, 5)
    mosaics = [mosaic(tiles, fading) for fading in fadings]
    slides = [Slide(path, float(mpp)) for path, mpp in zip(args.slides[::2], args.slides[1::2], strict=True)]
    images = [
        (s.read_region_px((0, 0), s.size_px(max(16.0, s.mpp)), max(16.0, s.mpp)), max(16.0, s.mpp)) for s in slides
    ]
    print("| rule |", " | ".join([*(f"stain / {f}" for f in fadings), *(s.slide_id for s in slides)]), "|")
    for name, rule in RULES.items():
        cells = []
        for image, truth, laid in mosaics:
            mask = found(image, MPP, rule)
            cells.append(f"{(mask & truth).sum() / truth.sum():.2f}, {(mask & laid).sum() / max(1, mask.sum()):.2f}")
        cells += [f"{found(image, mpp, rule).mean():.3f}" for image, mpp in images]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
