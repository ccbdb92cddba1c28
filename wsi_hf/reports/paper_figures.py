"""The paper's figures: 1 from the package's own divergence, 3 and 4 from an evaluated run."""

from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wsi_hf.models.divergence import beta_1_for, beta_divergence
from wsi_hf.reports.cohort import read_evaluation, worth_seeing
from wsi_hf.reports.figures import ACCENT, INK, STYLE, WARM, plot_froc, plot_roc, save_figure
from wsi_hf.reports.overlays import plot_gallery

COLOURS = (INK, ACCENT, WARM)


def plot_paper_figures(out: str | Path, run: str | Path | None = None) -> list[Path]:
    """Draw Figure 1 and, from a run, Figure 3 (slides, maps, outlines) and Figure 4 (ROC and FROC), as PNG and SVG.

    Args:
        out: folder, made if need be.
        run: a folder that `evaluate_cohort` has written to, such as a training's output.

    Returns:
        The pictures.
    """
    out, evaluation = Path(out), None if run is None else read_evaluation(run)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix in (".png", ".svg"):
        written.append(out / f"figure_1{suffix}")
        plot_figure_1(written[-1])
        if evaluation is not None:
            written += [out / f"{name}{suffix}" for name in ("figure_3", "figure_4_left", "figure_4_right")]
            plot_gallery([record.panel() for record in worth_seeing(evaluation.records)], written[-3])
            plot_roc(evaluation.roc, written[-2])
            plot_froc(evaluation.froc, written[-1], evaluation.interval)
    return written


def expected_divergence(
    q_1: NDArray[np.float64], beta: tuple[float, float], gamma: float, r: float = 0.5
) -> NDArray[np.float64]:
    """Compute the mean loss of patches that look benign, when the model gives them all the same q_1.

    Of all patches a share r comes from benign slides; a share (1 - r) gamma looks as benign but inherited "malignant".

    Args:
        q_1: probabilities of malignant, strictly between 0 and 1, shape (n,).
        beta: (beta_0, beta_1).
        gamma: share of the patches of malignant slides that are mislabelled.
        r: share of patches from benign slides.

    Returns:
        r L(benign) + (1 - r) gamma L(malignant), shape (n,).
    """
    benign, malignant = (_divergence(_margin(q_1), label, beta).numpy() for label in (0, 1))
    return r * benign + (1 - r) * gamma * malignant


def pull_of_a_malignant_label(q_1: NDArray[np.float64], beta: tuple[float, float]) -> NDArray[np.float64]:
    """Compute how strongly a label "malignant" raises the margin l1 - l0 of a patch, -dL / d(l1 - l0), shape (n,)."""
    margin = _margin(q_1).requires_grad_()
    _divergence(margin, 1, beta).sum().backward()
    assert margin.grad is not None
    return -margin.grad.numpy()


def plot_figure_1(path: str | Path, gamma: float = 0.33, theta_0: float = 0.05) -> None:
    """Draw Figure 1: left the loss of benign-looking patches and its minimum, right the pull of the label "malignant".

    Three choices of beta_1 with beta_0 = 0: 0 is the Kullback-Leibler divergence, whose minimum lies at
    1 / (1 + 1 / gamma); `beta_1_for` moves it to theta_0 (0.61 with the paper's numbers); 1 is the paper's setting.

    Args:
        path: the picture; its suffix gives the format.
        gamma: share of the patches of malignant slides that are mislabelled.
        theta_0: where the minimum is to lie.
    """
    q_1 = np.linspace(0.001, 0.999, 999)
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for beta_1, colour in zip((0.0, beta_1_for(theta_0, gamma), 1.0), COLOURS, strict=True):
            beta = (0.0, beta_1)
            loss = expected_divergence(q_1, beta, gamma)
            lowest = loss.argmin()
            name = rf"$\beta_1$ = {beta_1:.3g}, minimum at {q_1[lowest]:.2f}"
            left.plot(q_1, loss - loss[lowest], color=colour, linewidth=2, label=name)
            left.plot(q_1[lowest], 0, "o", color=colour, markeredgecolor="white", markersize=8, clip_on=False, zorder=3)
            right.plot(q_1, pull_of_a_malignant_label(q_1, beta), color=colour, linewidth=2, label=name)
        left.set(xlim=(-0.005, 0.6), ylim=(-0.004, 0.12), title=rf"Benign-looking patches, $\gamma$ = {gamma:g}")
        left.set(xlabel=r"$q_1$, P(malignant) given to them", ylabel="expected loss above its minimum")
        right.set(xlim=(0, 1), ylim=(-0.03, 1.03), title="Patch labelled malignant")
        right.set(
            xlabel=r"$q_1$, P(malignant) given to it", ylabel=r"pull of the label, $-\partial L/\partial(l_1-l_0)$"
        )
        right.legend(loc="upper right")
        save_figure(figure, path)


def _margin(q_1: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(np.log(q_1) - np.log1p(-q_1))


def _divergence(margin: torch.Tensor, label: int, beta: tuple[float, float]) -> torch.Tensor:
    logits = torch.stack([torch.zeros_like(margin), margin], dim=1)  # (n, 2)
    return beta_divergence(logits, torch.full((len(margin),), label), beta)
