"""Patches side by side under one another: reconstructions, augmentations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wsi_hf.reports.figures import STYLE, save_figure


def plot_contact_sheet(rows: Mapping[str, Sequence[NDArray]], path: str | Path, title: str = "") -> None:
    """Draw rows of patches, each row under its name.

    Args:
        rows: patches of each name, uint8 (H, W, 3); every row holds as many.
        path: its suffix (.png, .jpg, .svg) gives the format.
    """
    columns = len(next(iter(rows.values())))
    with rc_context(STYLE):
        figure = Figure(figsize=(1.1 * columns + 1.6, 1.15 * len(rows) + 0.5), layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for axes_row, (name, patches) in zip(grid, rows.items(), strict=True):
            for axes, patch in zip(axes_row, patches, strict=True):
                axes.imshow(patch)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            axes_row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        figure.suptitle(title, fontweight="bold")
        save_figure(figure, path)
