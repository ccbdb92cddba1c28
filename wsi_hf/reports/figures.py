"""Curves: ROC and FROC as in the paper's Figure 4, and the course of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wsi_hf.evaluation.estimates import Estimate
from wsi_hf.evaluation.froc.curve import RATES, FrocResult
from wsi_hf.evaluation.froc.interval import FrocInterval, froc_estimate
from wsi_hf.evaluation.roc import RocResult
from wsi_hf.reports.placement import TumourShare
from wsi_hf.slides.replacing import replacing

INK, ACCENT, WARM, FAINT = "#22303c", "#1f6fb2", "#c8442c", "#c9d1d8"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9edf0",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "savefig.dpi": 160,
    "svg.hashsalt": "wsi_hf",
}


def plot_roc(result: RocResult, path: str | Path, title: str = "Slides: malignant or benign") -> None:
    """Draw a ROC curve with its pointwise 95 % band; the file's suffix (.png, .svg) gives the format."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        if not np.isnan(result.band).all():
            axes.fill_between(result.band_fpr, *result.band, color=ACCENT, alpha=0.15, linewidth=0, label="95 % band")
        axes.plot(result.fpr, result.tpr, color=ACCENT, linewidth=2, label=_legend("AUC", result.estimate()))
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal", title=title)
        axes.set(xlabel="false positive rate (benign slides)", ylabel="true positive rate (malignant slides)")
        axes.legend(loc="lower right")
        save_figure(figure, path)


def plot_froc(
    result: FrocResult, path: str | Path, interval: FrocInterval | None = None, title: str = "Lesions: found or missed"
) -> None:
    """Draw a FROC curve on the challenge's rates, which double, so that each is as far from the next."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.8), layout="constrained")
        axes = figure.subplots()
        rates, sensitivity = result.false_positives_per_slide, result.sensitivity
        if interval is not None and interval.n_resamples:
            axes.fill_between(interval.rates, *interval.band, color=ACCENT, alpha=0.15, linewidth=0, label="95 % band")
        label = _legend("mean sensitivity", froc_estimate(result, interval), f", {result.n_lesions} lesions")
        rates = np.append(rates, max(16.0, rates[-1]))  # the challenge extends the last point to the right
        shape = "steps-pre" if result.convention == "release" else "default"
        axes.plot(
            rates, np.append(sensitivity, sensitivity[-1]), color=ACCENT, linewidth=2, drawstyle=shape, label=label
        )
        axes.plot(RATES, result.sensitivity_at, "o", color=ACCENT, markersize=6, markeredgecolor="white", clip_on=False)
        axes.set_xscale("log", base=2)
        axes.set_xticks(RATES, ["1/4", "1/2", "1", "2", "4", "8"])
        axes.minorticks_off()
        axes.set(xlim=(1 / 8, 16), ylim=(-0.015, 1.015), title=title)
        axes.set(xlabel="false positives per slide", ylabel="sensitivity (share of lesions found)")
        axes.legend(loc="upper left" if result.average < 0.5 else "lower right")
        save_figure(figure, path)


def plot_training(
    history: Sequence[Mapping[str, float]], path: str | Path, share: TumourShare | None = None, title: str = "Training"
) -> None:
    """Draw the loss, below it the share of malignant slides' patches that hold tumour, and the slide AUC where logged.

    Args:
        history: what the trainer logged (`trainer.state.log_history`): dictionaries with "step" and "loss", and with
            "eval_slide_auc" where it evaluated.
        path: the picture; its suffix gives the format.
        share: from `share_of_tumour_patches`.
        title: above the picture.
    """
    panels = [("loss", _logged(history, "loss"), "training loss")]
    if share is not None:
        panels.append(("share", np.array([share.steps, share.share]), "patches of malignant slides\nthat hold tumour"))
    auc = _logged(history, "eval_slide_auc")
    if auc.size:
        panels.append(("auc", auc, "slide AUC,\nvalidation"))
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.6 + 2.1 * len(panels)), layout="constrained")
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (kind, (steps, values), label) in zip(rows, panels, strict=True):
            _course(axes, steps, values, WARM if kind == "share" else ACCENT)
            axes.set_ylabel(label)
            if kind != "loss":
                axes.set_ylim(-0.03, 1.03)
        rows[0].set_title(title)
        rows[-1].set_xlabel("optimiser step")
        figure.align_ylabels()
        save_figure(figure, path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure under a temporary name and rename it."""
    path = Path(path)
    metadata = {"Date": None} if path.suffix == ".svg" else None  # the same figure gives the same file
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:], metadata=metadata)


def _legend(name: str, estimate: Estimate, more: str = "") -> str:
    interval = "" if estimate.ci95 is None else f" ({estimate.ci95[0]:.3f} to {estimate.ci95[1]:.3f})"
    return f"{name} {estimate.value:.3f}{interval}\n{estimate.n} slides{more}"


def _logged(history: Sequence[Mapping[str, float]], key: str) -> NDArray[np.float64]:
    """Collect (steps, values) of one logged quantity, shape (2, n)."""
    return np.array([(entry["step"], entry[key]) for entry in history if key in entry], float).reshape(-1, 2).T


def _course(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], color: str) -> None:
    """Draw single values faintly and their running mean on top; few values as dots."""
    if len(values) < 25:
        axes.plot(steps, values, "o-", color=color, linewidth=1.5, markersize=4)
        return
    window = max(3, len(values) // 20)
    padded = np.pad(values, (window // 2, window - 1 - window // 2), mode="edge")
    axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    axes.plot(steps, np.convolve(padded, np.ones(window) / window, mode="valid"), color=color, linewidth=2)
