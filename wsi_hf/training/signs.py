"""Signs that need no mask: has the tumour been found, or has training fallen into "all benign"?

Both are read off the slide head's q of the patches of a round. While nothing is found, patches of malignant slides look
like those of benign ones, and q is about 1/2 for both; when the tumour is found, they part. Under beta_1 > 0 the
malignant gradient is proportional to q^beta_1: where q is small for both, it has vanished.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate.utils import gather_object
from torch import Tensor

from ..sampling.map_store import write_text

FILE = "signs.json"
ROUNDS_FOUND = 2
"""Rounds in a row that must show the sign."""
ROUNDS_COLLAPSED = 3
VANISHED = 0.3
"""Less than this share of the malignant gradient is left."""
FLAT = 2.0
"""Malignant patches look less than so many times as malignant as benign ones."""

ADVICE = (
    'training has fallen into "all benign": for {rounds} rounds patches of malignant slides have looked like those '
    "of benign ones (mean q {malignant:.3f} and {benign:.3f}), and {left:.0%} of the malignant gradient is left. It "
    "seldom comes back. Start again with --harden_at 1.25 and --beta_1_warmup_steps (find the tumour first, harden "
    "later), with more slides or steps, --alpha 8 --draw_from all, a pre-trained --init_from, or another --seed"
)
NEVER_FOUND = (
    "the tumour was never found: patches of malignant slides never looked --harden_at times as malignant as those of "
    "benign ones, so beta_1 stayed 0 to the end. Train longer, on more slides, or with another --seed"
)


@dataclass
class Sums:
    """Over the patches of a round: how many, their q, and q^beta_1 of the malignant ones; (benign, malignant)."""

    patches: list[float] = field(default_factory=lambda: [0.0, 0.0])
    q: list[float] = field(default_factory=lambda: [0.0, 0.0])
    gradient: float = 0.0

    def add(self, labels: Tensor, q: Tensor, beta_1: float) -> None:
        for label in (0, 1):
            chosen = q[labels == label].double()
            self.patches[label] += len(chosen)
            self.q[label] += float(chosen.sum())
        self.gradient += float(chosen.pow(max(beta_1, 0.0)).sum())

    def merge(self, other: "Sums") -> None:
        self.patches = [a + b for a, b in zip(self.patches, other.patches, strict=True)]
        self.q = [a + b for a, b in zip(self.q, other.q, strict=True)]
        self.gradient += other.gradient

    @property
    def means(self) -> tuple[float, float, float]:
        """Mean q of benign and of malignant patches, and the share of the malignant gradient that is left."""
        benign, malignant = (q / n for q, n in zip(self.q, self.patches, strict=True))
        return benign, malignant, self.gradient / self.patches[1]


class Signs:
    """Judges every round by its patches. All ranks judge alike, and a resumed run as the one that was stopped.

    Args:
        found_at: the tumour counts as found when patches of malignant slides look this many times as malignant as those
            of benign slides.
    """

    def __init__(self, found_at: float):
        self.found_at = found_at
        self.found_step: int | None = None
        self.bad_rounds = self._good_rounds = 0
        self._batches: list[tuple[Tensor, Tensor, float]] = []
        self._earlier = Sums()  # of this round, before the run was resumed

    @property
    def collapsed(self) -> bool:
        return self.bad_rounds >= ROUNDS_COLLAPSED

    def see(self, labels: Tensor, q: Tensor, beta_1: float) -> None:
        """One batch: labels (B,), q of malignant (B,), and beta_1 at its step."""
        self._batches.append((labels, q, beta_1))

    def end_round(self, step: int) -> str | None:
        """Judge the round that ends at this step; called by all ranks. Advice when training has just collapsed."""
        sums = self._gather()
        self._batches, self._earlier = [], Sums()
        if not all(sums.patches):
            return None
        benign, malignant, left = sums.means
        self._good_rounds = self._good_rounds + 1 if malignant >= self.found_at * benign else 0
        if self.found_step is None and self._good_rounds >= ROUNDS_FOUND:
            self.found_step = step
        self.bad_rounds = self.bad_rounds + 1 if left < VANISHED and malignant < FLAT * benign else 0
        if self.bad_rounds != ROUNDS_COLLAPSED:
            return None
        return ADVICE.format(rounds=ROUNDS_COLLAPSED, benign=benign, malignant=malignant, left=left)

    def facts(self, gather: bool = True) -> dict:
        """What a checkpoint keeps, of all ranks (called by all of them) or of this one alone."""
        sums = self._gather() if gather else self._mine()
        return {"found_step": self.found_step, "good": self._good_rounds, "bad": self.bad_rounds, "sums": asdict(sums)}

    def load(self, checkpoint: Path, rank: int) -> None:
        """Go on as in the checkpoint; the sums of all ranks are kept by the first."""
        facts = json.loads((checkpoint / FILE).read_text())
        self.found_step, self._good_rounds, self.bad_rounds = facts["found_step"], facts["good"], facts["bad"]
        self._earlier = Sums(**facts["sums"]) if rank == 0 else Sums()

    def _mine(self) -> Sums:
        sums = Sums()
        sums.merge(self._earlier)
        for labels, q, beta_1 in self._batches:
            sums.add(labels, q.float(), beta_1)
        return sums

    def _gather(self) -> Sums:
        first, *others = gather_object([self._mine()])
        for other in others:
            first.merge(other)
        return first


def save_signs(facts: dict, checkpoint: Path) -> None:
    checkpoint.mkdir(parents=True, exist_ok=True)
    write_text(checkpoint / FILE, json.dumps(facts))
