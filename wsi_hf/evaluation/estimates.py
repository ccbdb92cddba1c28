"""A figure with its interval and its n: the only form in which a result leaves the evaluation."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Estimate:
    """One figure.

    Attributes:
        value: the figure; NaN where it is undefined.
        ci95: 95 % interval, or None where there is none.
        n: number of slides behind it.
        counts: further numbers that a reader needs, such as `n_lesions`.
    """

    value: float
    ci95: tuple[float, float] | None
    n: int
    counts: dict[str, int | float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Give `{"value", "ci95", "n", ...}` with None where a number is undefined: JSON has no NaN."""
        ci95 = None if self.ci95 is None else [json_number(bound) for bound in self.ci95]
        return {"value": json_number(self.value), "ci95": ci95, "n": self.n, **self.counts}

    def __str__(self) -> str:
        interval = "" if self.ci95 is None else f" ({self.ci95[0]:.3f}-{self.ci95[1]:.3f})"
        return f"{self.value:.3f}{interval}, n = {self.n}"


def json_number(value: float) -> float | None:
    """Turn what JSON cannot hold into None."""
    return float(value) if math.isfinite(value) else None
