"""Sees that training has fallen into "all benign", and says what to try.

While nothing is found, patches of malignant slides look like those of benign ones, and q is about 1/2 for both. Under
beta_1 > 0 the malignant gradient is proportional to q^beta_1: once q is small for both, it has vanished. Where beta_1
warms up, the time to find something is over when it is half way.
"""

import torch
from torch import Tensor

ROUNDS = 3
"""Bad rounds in a row before anything is said."""
VANISHED = 0.3
"""Less than this share of the malignant gradient is left."""
GONE = 0.001
"""With so little of it left it does not matter any more what tells what apart."""
FLAT = 2.0
"""Malignant patches look less than so many times as malignant as benign ones: the maps tell nothing apart."""

HARDENED = 0.5
"""From this beta_1 on a training that began with less should have found something."""
ALIKE = 1.3
"""It has not while malignant patches look less than so many times as malignant as benign ones."""

ADVICE = (
    'training is falling into "all benign": for {rounds} rounds patches of malignant slides have looked like those '
    "of benign ones (mean q {malignant:.3f} and {benign:.3f}), and {left:.0%} of the malignant gradient is left. It "
    "seldom comes back. Start again with --discovery_steps (half of all steps), --alpha 8, --draw_from all, and "
    "--beta_1_warmup_start and --beta_1_warmup_steps (find the tumour first, harden later), with a later start if you "
    "have them, with more slides or steps, a pre-trained --init_from, or another --seed"
)


class CollapseWatch:
    """Looks at the patches of every round: needs no mask, only the slides' labels and the slide head's q.

    Args:
        first_beta_1: beta_1 at the end of the first round.
    """

    def __init__(self, first_beta_1: float) -> None:
        self._batches: list[tuple[Tensor, Tensor]] = []
        self.bad_rounds = 0
        self._warms_up = first_beta_1 < HARDENED

    @property
    def collapsed(self) -> bool:
        """Whether the last rounds were all bad."""
        return self.bad_rounds >= ROUNDS

    def see(self, labels: Tensor, q: Tensor) -> None:
        """One batch: labels (B,), q of malignant (B,)."""
        self._batches.append((labels, q))

    def end_round(self, beta_1: float) -> str | None:
        """Judge the round; the advice when it is the last of `ROUNDS` bad ones in a row, else None."""
        if not self._batches:  # no labels are looked at in pre-training
            return None
        benign, malignant, left = self._means(beta_1)
        self._batches.clear()
        vanished = left < GONE or (left < VANISHED and malignant < FLAT * benign)
        bad = vanished or (self._warms_up and beta_1 >= HARDENED and malignant < ALIKE * benign)
        self.bad_rounds = self.bad_rounds + 1 if bad else 0
        if self.bad_rounds != ROUNDS:
            return None
        return ADVICE.format(rounds=ROUNDS, benign=benign, malignant=malignant, left=left)

    def _means(self, beta_1: float) -> tuple[float, float, float]:
        """Mean q of benign and of malignant patches, and the mean of q^beta_1 over the malignant ones."""
        labels, q = (torch.cat([batch[part] for batch in self._batches]).float().cpu() for part in (0, 1))
        malignant = q[labels == 1]
        return float(q[labels == 0].mean()), float(malignant.mean()), float(malignant.pow(max(beta_1, 0.0)).mean())
