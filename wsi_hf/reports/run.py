"""What a finished training looked like: its curve, and how often the patches that it drew held tumour."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import Dataset

from wsi_hf.reports.figures import plot_training
from wsi_hf.reports.placement import TumourShare, share_of_tumour_patches
from wsi_hf.slides.outlines.outline_files import read_outline
from wsi_hf.slides.slide import Slide


def plot_run(
    run: str | Path, history: Sequence[Mapping[str, float]], train: Dataset, patch_size: int, mpp: float
) -> None:
    """Draw `training.png` into a run's folder.

    Args:
        run: the run's output folder.
        history: `trainer.state.log_history`.
        train: the training slides; the annotations that the training did not see, where there are any.
        patch_size: side of a patch in model pixels, at `mpp` um a pixel.
    """
    run = Path(run)
    plot_training(history, run / "training.png", share=tumour_share(run, train, patch_size * mpp))


def tumour_share(run: str | Path, train: Dataset, side_um: float, every: int = 25) -> TumourShare | None:
    """The share of malignant slides' patches that held tumour, per `every` steps; None without annotations."""
    outlined = [row for row in train if row["label"] and row["annotation"]]
    draws = read_draws(run)
    if not outlined or not draws:
        return None
    opened = [(row, Slide(row["path"], mpp=row["mpp"])) for row in outlined]
    steps, slide_ids, centers = zip(*draws, strict=True)
    return share_of_tumour_patches(
        steps,
        slide_ids,
        centers,
        {row["slide_id"]: read_outline(row["annotation"], slide.bounds_l0[:2]) for row, slide in opened},
        {row["slide_id"]: side_um / slide.mpp for row, slide in opened},
        every,
    )


def read_draws(run: str | Path) -> list[tuple[int, str, tuple[float, float]]]:
    """(step, slide_id, (x_l0, y_l0)) of every patch of a malignant slide that the training's ranks wrote down."""
    draws = []
    for path in sorted(Path(run).glob("_mapping/draws.*.csv")):
        with open(path, newline="") as file:
            for step, slide_id, label, x, y, *_ in csv.reader(file):
                if label == "1":
                    draws.append((int(step), slide_id, (float(x), float(y))))
    return draws
