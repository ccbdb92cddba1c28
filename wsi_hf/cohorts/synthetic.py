"""A cohort of synthetic slides, written as CAMELYON16 is published: for demonstrations, tests and benchmarks.

images/{normal,tumor,test}_NNN.tif      pyramidal TIFF with mpp; two "scanners" at half CAMELYON16's resolution
annotations/{tumor,test}_NNN.xml        ASAP outlines of the tumour, for evaluation only
evaluation/reference.csv                the test slides' labels: name,class,type,size
"""

import itertools
import json
import logging
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from wsi_hf.cohorts.camelyon16 import NOT_IN_FROC, WITHDRAWN
from wsi_hf.cohorts.lymph_node import CELL_UM, draw_slide
from wsi_hf.slides.annotations import polygons_from_mask, write_asap
from wsi_hf.slides.pyramid import write_pyramid
from wsi_hf.slides.replacing import write_text

logger = logging.getLogger(__name__)

VERSION = 2
"""Of the drawing; a cohort drawn by another version is another cohort."""
SCANNERS_MPP = (0.486, 0.454)
"""um per level-0 pixel: twice CAMELYON16's two scanners. Assigned without regard to the label."""
MANIFEST = "synthetic.json"
JPEG_QUALITY = 85


@dataclass(frozen=True)
class SyntheticSlide:
    """One slide of a cohort; everything drawn follows from (seed, number) alone."""

    slide_id: str
    malignant: bool
    seed: int
    number: int
    size_um: float
    burden: tuple[float, float]


def synthesize_cohort(
    folder: str | Path,
    n_train: int = 128,
    n_test: int = 32,
    size_um: float = 768,
    seed: int = 0,
    burden: tuple[float, float] = (0.005, 0.20),
    processes: int | None = None,
) -> Path:
    """Write a cohort, half of each split malignant; the same for the same arguments, whatever the number of processes.

    A folder that holds the same cohort is completed where slides are missing; one that holds anything else is refused.

    Args:
        folder: made if need be.
        n_train: training slides.
        n_test: test slides.
        size_um: side of a slide; 768 um is 768 pixels at 1 um/px.
        seed: of the cohort.
        burden: least and largest share of the tissue that is tumour on malignant slides; log-uniform between.
        processes: how many draw at the same time; None for one a core.

    Returns:
        The folder.
    """
    folder = Path(folder)
    slides = cohort_slides(n_train, n_test, size_um, seed, burden)
    _claim(folder, {"n_train": n_train, "n_test": n_test, "size_um": size_um, "seed": seed, "burden": list(burden)})
    missing = [slide for slide in slides if not (folder / "images" / f"{slide.slide_id}.tif").exists()]
    if missing:
        _write_all(folder, missing, processes or os.cpu_count() or 1)
    reference = [
        f"{s.slide_id},{'Tumor,IDC,Macro' if s.malignant else 'Normal,None,None'}\n" for s in slides if _is_test(s)
    ]
    write_text(folder / "evaluation" / "reference.csv", "".join(reference))
    return folder


def cohort_slides(
    n_train: int, n_test: int, size_um: float, seed: int, burden: tuple[float, float]
) -> list[SyntheticSlide]:
    """The slides of a cohort, not yet drawn: training slides first."""
    if min(n_train, n_test) < 0 or not 0 < burden[0] <= burden[1] < 1 or size_um < 128:
        raise ValueError(
            "need n_train, n_test >= 0, 0 < burden[0] <= burden[1] < 1 and size_um >= 128; "
            f"got {n_train}, {n_test}, {burden}, {size_um}"
        )
    pairs = zip(_names("normal", (n_train + 1) // 2), _names("tumor", (n_train + 1) // 2), strict=True)
    names = [(name, name.startswith("tumor")) for pair in pairs for name in pair][:n_train]
    labels = np.random.default_rng([seed, 0]).permutation(np.arange(n_test) % 2 == 1).tolist()
    names += zip(_names("test", n_test), labels, strict=True)
    # test slides are numbered from a million, so that they do not change with n_train
    numbers = [*range(1, n_train + 1), *range(1_000_001, 1_000_001 + n_test)]
    return [SyntheticSlide(*name, seed, number, size_um, burden) for name, number in zip(names, numbers, strict=True)]


def render(slide: SyntheticSlide) -> tuple[np.ndarray, np.ndarray, float]:
    """Draw one slide in memory.

    Returns:
        (image, truth, mpp): uint8 (H, W, 3) at level 0; where the tumour is, bool, cells of CELL_UM; um per pixel of
        the image.
    """
    rng = np.random.default_rng([slide.seed, slide.number])
    mpp = SCANNERS_MPP[rng.integers(len(SCANNERS_MPP))]
    share = float(np.exp(rng.uniform(*np.log(slide.burden))))  # drawn for benign slides too, and not used
    image, truth = draw_slide(rng, slide.size_um, mpp, share if slide.malignant else None)
    return image, truth, mpp


def write_slide(folder: Path, slide: SyntheticSlide) -> str:
    """Draw one slide and write it, the image last: where it exists, the slide is complete."""
    image, truth, mpp = render(slide)
    if slide.malignant:
        write_asap(folder / "annotations" / f"{slide.slide_id}.xml", polygons_from_mask(truth, CELL_UM / mpp))
    write_pyramid(folder / "images" / f"{slide.slide_id}.tif", image, mpp, quality=JPEG_QUALITY)
    return slide.slide_id


def _write_all(folder: Path, slides: Sequence[SyntheticSlide], processes: int) -> None:
    progress = tqdm(total=len(slides), desc="synthetic slides", unit="slide")
    if min(processes, len(slides)) <= 1:
        for slide in slides:
            write_slide(folder, slide)
            progress.update()
    else:
        # a forked child starts at once; it only draws and writes, and touches neither a GPU nor its parent's threads
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        with ProcessPoolExecutor(min(processes, len(slides)), multiprocessing.get_context(method)) as pool:
            try:
                for _ in pool.map(write_slide, [folder] * len(slides), slides):
                    progress.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for the rest of the cohort
                raise
    progress.close()


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Make the folders and leave the cohort's settings there; refuse a folder that holds something else."""
    manifest, settings = folder / MANIFEST, {"version": VERSION, **settings}
    if manifest.exists():
        found = json.loads(manifest.read_text())
        if found != settings:
            raise ValueError(
                f"{folder} holds another synthetic cohort ({found}, not {settings}); delete it or choose another folder"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no synthetic cohort; choose another folder")
    for name in ("images", "annotations", "evaluation"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not manifest.exists():
        write_text(manifest, json.dumps(settings, indent=1) + "\n")


def _names(kind: str, count: int) -> list[str]:
    """The first names of a kind, without those that CAMELYON16 has withdrawn or treats as special."""
    names = (f"{kind}_{number:03d}" for number in itertools.count(1))
    return list(itertools.islice((name for name in names if name not in {*WITHDRAWN, *NOT_IN_FROC}), count))


def _is_test(slide: SyntheticSlide) -> bool:
    return slide.slide_id.startswith("test_")
