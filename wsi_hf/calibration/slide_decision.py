"""The slide's probability: a logistic curve over its margins (Platt), and the operating point at 0.5."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Rule = Literal["balanced accuracy", "sensitivity", "specificity"]
PRIOR_SLOPE = 0.01
"""Weight of a small slope: keeps it finite where the classes do not overlap, and hardly touches it elsewhere."""


@dataclass(frozen=True, eq=False)
class SlideDecision:
    """logit P(malignant) = slope * mean of the largest margins that fill area_um2 + bias.

    Attributes:
        area_um2, slope, bias: see above; 0.5 is the operating point.
        losses: cross-validated log loss of every area.
        held_out: logits of the slides, each from the others alone, the operating point at 0, shape (n,).
        note: where a rule could not be kept.
    """

    area_um2: float
    slope: float
    bias: float
    losses: dict[float, float]
    held_out: NDArray[np.float64]
    note: str = ""


def decide_slides(
    labels: NDArray[np.int64],
    pooled: Mapping[float, NDArray[np.float64]],
    rule: Rule = "balanced accuracy",
    level: float = 0.0,
) -> SlideDecision:
    """Fit the curve, choose the pooling by leaving out one slide at a time, and set the operating point.

    Both classes weigh the same, whatever their numbers, so that 0.5 is where a slide is as likely among malignant as
    among benign ones: the best balanced accuracy. The smallest area is kept unless a larger one is better by more than
    the standard error of the difference.

    Args:
        labels: 0 benign, 1 malignant, shape (n,).
        pooled: margins of the slides, shape (n,), for each area that they may be pooled over, the smallest first; the
            paper's largest pixel is the area 0.
        rule, level: what the operating point keeps; for "sensitivity" and "specificity", on further slides, with the
            share `level` (conformal: a slide of n + 1 stands below the k-th lowest with chance k / (n + 1)).

    Raises:
        ValueError: the margins do not tell malignant slides from benign ones.
    """
    if all(np.ptp(margins) == 0 for margins in pooled.values()):
        raise ValueError("the margins of all slides are equal: there is nothing to calibrate")
    held_out = {area: _held_out(labels, margins) for area, margins in pooled.items()}
    losses = {area: _losses(labels, logits) for area, logits in held_out.items()}
    area = min(pooled)
    for other in pooled:
        gain = losses[area] - losses[other]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            area = other
    slope, bias = fit(labels, pooled[area])
    if slope < 1e-6:
        raise ValueError("malignant slides do not have larger margins than benign ones: the model cannot be calibrated")
    means = {area: float(loss.mean()) for area, loss in losses.items()}
    decision = SlideDecision(area, slope, bias, means, held_out[area])
    return decision if rule == "balanced accuracy" else _moved(decision, labels, pooled[area], rule, level)


def fit(labels: NDArray[np.int64], margins: NDArray[np.float64]) -> tuple[float, float]:
    """Fit (slope, bias) by penalised maximum likelihood, slope >= 0, with Platt's targets."""
    n = np.array([(labels == 0).sum(), (labels == 1).sum()])
    target = np.where(labels == 1, (n[1] + 1) / (n[1] + 2), 1 / (n[0] + 2))
    weight, prior = (0.5 / n)[labels], PRIOR_SLOPE / len(labels)
    centre, scale = margins.mean(), margins.std() or 1.0
    x = (margins - centre) / scale

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = w[0] * x + w[1]
        error = weight * (expit(logit) - target)
        value = -(weight * (target * log_expit(logit) + (1 - target) * log_expit(-logit))).sum()
        return value + prior * w[0] ** 2, np.array([error @ x + 2 * prior * w[0], error.sum()])

    slope, bias = minimize(loss, [1.0, 0.0], jac=True, bounds=[(0, None), (None, None)]).x
    return float(slope / scale), float(bias - slope / scale * centre)


def _held_out(labels: NDArray[np.int64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logit of each slide by the curve of the others, in up to 40 parts."""
    logits, parts = np.empty(len(labels)), min(len(labels), 40)
    for part in range(parts):
        out = np.arange(len(labels)) % parts == part
        slope, bias = fit(labels[~out], margins[~out])
        logits[out] = slope * margins[out] + bias
    return logits


def _losses(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log loss of each slide, both classes with the same weight, shape (n,)."""
    weight = len(labels) * (0.5 / np.bincount(labels))[labels]
    return -weight * log_expit(np.where(labels == 1, logits, -logits))


def _moved(
    decision: SlideDecision, labels: NDArray[np.int64], margins: NDArray[np.float64], rule: Rule, level: float
) -> SlideDecision:
    """Move the operating point to where a share `level` of one class will be on its side of it."""
    logits = decision.slope * margins + decision.bias
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
