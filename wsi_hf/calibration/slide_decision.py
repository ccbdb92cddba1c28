"""The slide's probability: a logistic curve over its margins (Platt), and the operating point at 0.5."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Rule = Literal["balanced accuracy", "sensitivity", "specificity"]
POOLINGS = {"largest pixel": (True, False), "robust mean": (False, True), "both": (True, True)}
"""Which of the two margins a slide's probability rises with: (largest, robust). The paper's first."""
PRIOR_SLOPE = 0.01
"""Weight of a small slope: keeps it finite where the classes do not overlap, and hardly touches it elsewhere."""


@dataclass(frozen=True, eq=False)
class SlideDecision:
    """logit P(malignant) = largest * largest margin + robust * robust margin + bias.

    Attributes:
        largest, robust, bias: see above; 0.5 is the operating point.
        pooling: of POOLINGS.
        losses: cross-validated log loss of every pooling.
        held_out: logits of the slides, each from the others alone, the operating point at 0, shape (n,).
        note: where a rule could not be kept.
    """

    largest: float
    robust: float
    bias: float
    pooling: str
    losses: dict[str, float]
    held_out: NDArray[np.float64]
    note: str = ""


def decide_slides(
    labels: NDArray[np.int64], margins: NDArray[np.float64], rule: Rule = "balanced accuracy", level: float = 0.0
) -> SlideDecision:
    """Fit the curve, choose the pooling by leaving out one slide at a time, and set the operating point.

    Both classes weigh the same, whatever their numbers, so that 0.5 is where a slide is as likely among malignant as
    among benign ones: the best balanced accuracy. The paper's largest pixel is kept unless another pooling is better by
    more than the standard error of the difference.

    Args:
        labels: 0 benign, 1 malignant, shape (n,).
        margins: largest and robust margin of each slide, shape (n, 2).
        rule, level: what the operating point keeps; for "sensitivity" and "specificity", on further slides, with the
            share `level` (conformal: a slide of n + 1 stands below the k-th lowest with chance k / (n + 1)).

    Raises:
        ValueError: the margins do not tell malignant slides from benign ones.
    """
    if np.ptp(margins[:, 0]) == 0:
        raise ValueError("the margins of all slides are equal: there is nothing to calibrate")
    held_out = {name: _held_out(labels, margins, np.array(used)) for name, used in POOLINGS.items()}
    losses = {name: _losses(labels, logits) for name, logits in held_out.items()}
    pooling = "largest pixel"
    for name in ("robust mean", "both"):
        gain = losses[pooling] - losses[name]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            pooling = name
    largest, robust, bias = fit(labels, margins, np.array(POOLINGS[pooling]))
    if largest + robust < 1e-6:
        raise ValueError("malignant slides do not have larger margins than benign ones: the model cannot be calibrated")
    decision = SlideDecision(
        largest, robust, bias, pooling, {name: float(loss.mean()) for name, loss in losses.items()}, held_out[pooling]
    )
    return decision if rule == "balanced accuracy" else _moved(decision, labels, margins, rule, level)


def fit(labels: NDArray[np.int64], margins: NDArray[np.float64], used: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Fit (largest, robust, bias) by penalised maximum likelihood, slopes >= 0, with Platt's targets."""
    n = np.array([(labels == 0).sum(), (labels == 1).sum()])
    target = np.where(labels == 1, (n[1] + 1) / (n[1] + 2), 1 / (n[0] + 2))
    weight = (0.5 / n)[labels]
    centre, scale = margins.mean(axis=0), margins[:, used].std() or 1.0
    x = (margins - centre) / scale * used

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = x @ w[:2] + w[2]
        error = weight * (expit(logit) - target)
        value = -(weight * (target * log_expit(logit) + (1 - target) * log_expit(-logit))).sum()
        return value + PRIOR_SLOPE / len(x) * (w[:2] @ w[:2]), np.array(
            [*(error @ x + 2 * PRIOR_SLOPE / len(x) * w[:2]), error.sum()]
        )

    bounds = [(0, None if use else 0) for use in used] + [(None, None)]
    slope_0, slope_1, bias = minimize(loss, [*used.astype(float), 0.0], jac=True, bounds=bounds).x
    slopes = np.array([slope_0, slope_1]) / scale
    return float(slopes[0]), float(slopes[1]), float(bias - slopes @ centre)


def _held_out(labels: NDArray[np.int64], margins: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The logit of each slide by the curve of the others, in up to 40 parts."""
    logits, parts = np.empty(len(labels)), min(len(labels), 40)
    for part in range(parts):
        out = np.arange(len(labels)) % parts == part
        largest, robust, bias = fit(labels[~out], margins[~out], used)
        logits[out] = margins[out] @ (largest, robust) + bias
    return logits


def _losses(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log loss of each slide, both classes with the same weight, shape (n,)."""
    weight = len(labels) * (0.5 / np.bincount(labels))[labels]
    return -weight * log_expit(np.where(labels == 1, logits, -logits))


def _moved(
    decision: SlideDecision, labels: NDArray[np.int64], margins: NDArray[np.float64], rule: Rule, level: float
) -> SlideDecision:
    """Move the operating point to where a share `level` of one class will be on its side of it."""
    logits = margins @ (decision.largest, decision.robust) + decision.bias
    side = 1.0 if rule == "sensitivity" else -1.0
    own = np.sort(side * logits[labels == (rule == "sensitivity")])
    allowed = int(np.floor((1 - level) * (len(own) + 1) + 1e-9))  # slides of the class on the wrong side
    note = ""
    if allowed < 1:
        needed = int(np.ceil(level / (1 - level) - 1e-9))
        note = f"{rule} {level:g} cannot be promised with {len(own)} slides, it takes {needed}; all of them are kept"
    lowest = own[max(allowed, 1) - 1]
    below = side * logits[side * logits < lowest]
    cut = side * (lowest + below.max()) / 2 if len(below) else side * (lowest - 0.1)
    return replace(decision, bias=float(decision.bias - cut), held_out=decision.held_out - cut, note=note)
