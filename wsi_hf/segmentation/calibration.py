"""From margins to decisions: the calibration that a model carries in its config.json. Not in the paper.

It was set from slides that were not trained on, by their labels alone (`wsi_hf.calibration`), and makes 0.5 the
operating point of slides and of pixels. The margins themselves, and every ranking by them, stay as they are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from wsi_hf.segmentation.slide_score import POOLED_UM2

VERSION = 1
UNCALIBRATED = "not calibrated: a label or a lesion is a cut at the network's own P = 0.5, which says little"
UNLIKE = "unlike the slides that this model was calibrated on: its stain or texture lies far outside theirs"


@dataclass(frozen=True)
class Likeness:
    """What the calibration's slides looked like.

    Attributes:
        mean, deviation: of each feature of `slides.appearance` over the slides.
        precision: inverse covariance of the features in deviations, (features, features).
        limit: the largest distance that is no cause for a warning.
        false_alarms: share of slides of the same kind that are warned of, as measured leaving out one at a time.
        n: how many slides.
    """

    mean: list[float]
    deviation: list[float]
    precision: list[list[float]]
    limit: float
    false_alarms: float
    n: int

    def distance(self, features: ArrayLike) -> float:
        """Mahalanobis' distance from the mean, over the root of the number of features: about 1 for their own kind."""
        z = (np.asarray(features, float) - self.mean) / np.asarray(self.deviation)
        return float(np.sqrt(max(0.0, z @ np.asarray(self.precision) @ z) / len(z)))


@dataclass(frozen=True)
class Calibration:
    """The field `calibration` of a model's configuration.

    Attributes:
        area_um2, slope, bias: logit of P(slide is malignant) = slope * mean of the largest margins that fill the area +
            bias; an area of 0 is the largest margin alone, the paper's score.
        temperature, shift: P(pixel is malignant) = sigmoid((margin - shift) / temperature).
        smallest_um2: smaller lesions do not count.
        rule: by which the operating point was set.
        n_benign, n_malignant: slides behind it.
        expected: what to expect of further slides, see `wsi_hf.calibration`.
        likeness: to know slides of another kind.
    """

    area_um2: float
    slope: float
    bias: float
    temperature: float
    shift: float
    smallest_um2: float
    rule: str
    n_benign: int
    n_malignant: int
    expected: dict[str, Any] = field(default_factory=dict)
    likeness: Likeness | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"the model's calibration has version {self.version}, this package knows {VERSION}")
        numbers = (self.area_um2, self.slope, self.bias, self.temperature, self.shift, self.smallest_um2)
        if self.area_um2 not in POOLED_UM2:
            raise ValueError(f"the model's calibration rests on {self.area_um2} um2; known are {POOLED_UM2}")
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError("the model's calibration holds numbers that are none; calibrate it again")
        if self.slope <= 0 or self.temperature <= 0:
            raise ValueError("the model's calibration does not rise with the margin; calibrate it again")

    def slide_probability(self, pooled_margins: Mapping[float, float]) -> float:
        """P(malignant) of a slide from its margins, {area in um2: mean}; 0.5 is the operating point."""
        return float(expit(self.slope * pooled_margins[self.area_um2] + self.bias))

    def to_config(self) -> dict[str, Any]:
        """The field of config.json."""
        return {
            "version": self.version,
            "rule": self.rule,
            "n_benign": self.n_benign,
            "n_malignant": self.n_malignant,
            "slide": {"area_um2": self.area_um2, "slope": self.slope, "bias": self.bias},
            "pixels": {"temperature": self.temperature, "shift": self.shift, "smallest_um2": self.smallest_um2},
            "expected": self.expected,
            "likeness": None if self.likeness is None else vars(self.likeness).copy(),
        }


def calibration_of(config: Any) -> Calibration | None:
    """Read a model's calibration; None where it has none.

    Raises:
        ValueError: it cannot be used.
    """
    stored = getattr(config, "calibration", None)
    if stored is None:
        return None
    try:
        likeness = stored.get("likeness")
        return Calibration(
            **stored["slide"],
            **stored["pixels"],
            likeness=Likeness(**likeness) if likeness else None,
            **{name: value for name, value in stored.items() if name not in ("slide", "pixels", "likeness")},
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"the calibration in the model's config.json cannot be read ({error})") from error
