"""The reliability diagram: how often slides of a given probability are malignant."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from wsi_hf.reports.figures import ACCENT, FAINT, INK, STYLE, WARM, save_figure


def plot_reliability(groups: Sequence[Mapping[str, float]], path: str | Path, error: Mapping[str, Any]) -> None:
    """Draw groups of slides, each as large as it has slides; on the diagonal probabilities are honest.

    Args:
        groups: `reliability` of `wsi_hf.evaluation.decision`.
        path: the picture; its suffix gives the format.
        error: the figure `calibration_error`.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.axvline(0.5, color=WARM, linewidth=1, label="operating point")
        x, y = [group["score"] for group in groups], [group["malignant"] for group in groups]
        axes.plot(x, y, color=ACCENT, linewidth=1.5)
        axes.scatter(x, y, [8 * group["n"] for group in groups], color=ACCENT, zorder=3)
        for group in groups:
            place = (group["score"], group["malignant"])
            axes.annotate(f"{group['n']:.0f}", place, (6, -10), textcoords="offset points", fontsize=8, color=INK)
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", title="Slides: are probabilities honest?")
        axes.set(xlabel="probability that a slide is malignant", ylabel="share that is")
        value = f"expected calibration error {error['value']:.3f}, {error['n']} slides"
        axes.legend(loc="upper left", title=value, alignment="left")
        save_figure(figure, path)
