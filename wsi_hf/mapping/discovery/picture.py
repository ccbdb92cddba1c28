"""A picture of what was found: tissue of the kinds that malignant slides hold more of, beside any tissue."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from wsi_hf.inference.reading import read_contained
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.slides.replacing import replacing
from wsi_hf.slides.slide import Slide

PATCH_PX, COLUMNS = 64, 16


def draw_discovery(
    settings: MappingSettings, centres: Callable[[int], np.ndarray], q: list[np.ndarray], path: Path
) -> None:
    """Draw three rows of patches, each of another slide where there are enough.

    Args:
        centres: gives those of a slide's windows in model pixels, (n, 2).
        q: of each slide's windows, (n,); above 1/2 where something was found.
        path: the PNG.
    """
    rng, labels = np.random.default_rng([settings.seed, 5]), [slide.label for slide in settings.slides]
    found = sorted((s for s, label in enumerate(labels) if label and (q[s] > 0.5).any()), key=lambda s: -q[s].max())
    rows = {
        "found in malignant slides": [(s, int(q[s].argmax())) for s in found[:COLUMNS]],
        "other tissue of malignant slides": _anywhere(labels, 1, q, rng),
        "tissue of benign slides": _anywhere(labels, 0, q, rng),
    }
    figure = Figure(figsize=(COLUMNS * 0.75, 3))
    for line, (title, windows) in zip(figure.subplots(3, COLUMNS), rows.items(), strict=True):
        line[COLUMNS // 2].annotate(title, (0, 1.08), xycoords="axes fraction", ha="center", fontsize=9)
        for cell in line:
            cell.axis("off")
        for cell, (slide, window) in zip(line, windows, strict=False):
            cell.imshow(_patch(settings, slide, centres(slide)[window]))
    figure.subplots_adjust(0.005, 0, 0.995, 0.93, wspace=0.05, hspace=0.35)
    with replacing(path) as part:
        figure.savefig(part, dpi=100, format="png")


def _anywhere(labels: list[int], label: int, q: list[np.ndarray], rng: np.random.Generator) -> list[tuple[int, int]]:
    slides = [s for s in rng.permutation(len(labels)).tolist() if labels[s] == label and (q[s] <= 0.5).any()]
    return [(s, int(rng.choice(np.flatnonzero(q[s] <= 0.5)))) for s in slides[:COLUMNS]]


def _patch(settings: MappingSettings, slide_index: int, centre_px: np.ndarray) -> np.ndarray:
    info = settings.slides[slide_index]
    x, y = (int(c) - PATCH_PX // 2 for c in centre_px)
    return read_contained(Slide(info.path, mpp=info.mpp), (x, y), (PATCH_PX, PATCH_PX), settings.mpp)[0]
