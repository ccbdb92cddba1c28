"""What each augmentation costs and what it looks like.

    python benchmarks/augmentation.py                                  # patches of a synthetic slide
    python benchmarks/augmentation.py --slide SLIDE --out docs/augmentation.jpg

Prints patches a second of every augmentation alone, of all together, and of one forward pass of the demo's network, and
draws a contact sheet: the same patches under each augmentation at several strengths.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from wsi_hf import Slide, WsiUNetConfig, WsiUNetForSegmentation, find_tissue
from wsi_hf.cohorts.synthetic import cohort_slides, render
from wsi_hf.reports.contact_sheet import plot_contact_sheet
from wsi_hf.sampling.augmentation import PatchAugmentation

TISSUE_MPP = 8.0
SHOWN = 6  # patches in a row
NONE = {"rotate": False, "mirror": False, "elastic_px": 0.0, "stain_jitter": 0.0, "colour_jitter": 0.0}
ROWS: dict[str, dict[str, bool | float]] = {
    "rotate": {"rotate": True},
    "mirror": {"mirror": True},
    "elastic 1 px (default)": {"elastic_px": 1.0},
    "elastic 2 px": {"elastic_px": 2.0},
    "elastic 4 px": {"elastic_px": 4.0},
    "stain 0.1": {"stain_jitter": 0.1},
    "stain 0.3 (default)": {"stain_jitter": 0.3},
    "stain 0.5": {"stain_jitter": 0.5},
    "colour 0.1 (default)": {"colour_jitter": 0.1},
    "colour 0.3": {"colour_jitter": 0.3},
    "all defaults": {"rotate": True, "mirror": True, "elastic_px": 1.0, "stain_jitter": 0.3, "colour_jitter": 0.1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slide", help="where the patches come from; default: a synthetic slide")
    parser.add_argument("--mpp", type=float, default=1.0, help="resolution of the patches, um a pixel")
    parser.add_argument("--patch_size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1.0, help="spent on each row of the table")
    parser.add_argument("--out", type=Path, default=Path("augmentation.jpg"))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    patches = read_patches(arguments.slide, arguments.patch_size, arguments.mpp, arguments.batch)
    images = torch.from_numpy(patches).to(arguments.device).permute(0, 3, 1, 2).float() / 255
    network = WsiUNetForSegmentation(WsiUNetConfig(filters=8, depth=3)).to(arguments.device).eval()
    with torch.no_grad():
        rates = {"forward pass, 8 filters, depth 3": rate(lambda: network(images), arguments)}
        sheet = {"as read": patches[:SHOWN]}
        for name, settings in tqdm(ROWS.items(), unit="augmentation"):
            augment = PatchAugmentation(**{**NONE, **settings})
            sheet[name] = (255 * augment(images, seed=0)[:SHOWN]).permute(0, 2, 3, 1).round().byte().cpu().numpy()
            rates[name] = rate(lambda augment=augment: augment(images, seed=0), arguments)
    plot_contact_sheet(sheet, arguments.out)
    print(f"\n{arguments.batch} patches of {arguments.patch_size} px, {arguments.device}\n\n| | patches/s |\n|---|---|")
    for name, value in rates.items():
        print(f"| {name} | {value:,.0f} |")
    print(f"\nContact sheet: {arguments.out}")


def read_patches(slide: str | None, size_px: int, mpp: float, count: int) -> np.ndarray:
    """Patches at random places on the tissue, uint8 (count, size_px, size_px, 3)."""
    rng = np.random.default_rng(0)
    if slide is None:
        image, _, scanned_mpp = render(cohort_slides(2, 0, 768, 0, (0.1, 0.2))[1])
        step = round(mpp / scanned_mpp)
        image = image[::step, ::step]
        corners = rng.integers(0, np.array(image.shape[:2]) - size_px, size=(count, 2))
        return np.stack([image[y : y + size_px, x : x + size_px] for y, x in corners])
    opened = Slide(slide)
    tissue = find_tissue(opened, TISSUE_MPP)
    cells = np.argwhere(tissue)[rng.integers(tissue.sum(), size=count)]  # (row, column)
    centers_l0 = (cells[:, ::-1] + 0.5) * TISSUE_MPP / opened.mpp
    return np.stack([opened.read_patch(tuple(center), size_px, mpp) for center in centers_l0])


def rate(work, arguments: argparse.Namespace) -> float:
    """Patches a second; on the CPU a second of the processor's time, so that other programs do not count."""
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter
    work()
    begin, batches = clock(), 0
    while clock() < begin + arguments.seconds:
        work()
        batches += 1
        if arguments.device != "cpu":
            torch.accelerator.synchronize()
    return batches * arguments.batch / (clock() - begin)


if __name__ == "__main__":
    main()
