"""Which slides are mapped next: both classes at the same rate, benign ones by their error mass (paper, section 5)."""

from collections.abc import Collection, Sequence

import numpy as np


class SlideSampler:
    """Chooses the slides of each mapping round; a pure function of the seed and of the maps so far.

    An epoch maps every malignant slide once, in random order, and as many benign ones. Of the benign places of a round
    some go to the slides that have waited longest, the others are drawn without replacement with probability
    proportional to the sum of the map. Any `max_epochs_unmapped` epochs in a row have as many places for those who wait
    as there are benign slides, so every slide is mapped in them.

    Args:
        labels: 0 (benign) or 1 (malignant) of each slide.
        slides_per_round: slides mapped in one round, half of each class; rounds of an epoch differ by one a class.
        error_mass: False draws all benign slides alike.

    Raises:
        ValueError: a class is missing, or the benign slides cannot all be visited in time.
    """

    def __init__(
        self, labels: Sequence[int], slides_per_round: int, max_epochs_unmapped: int, seed: int, error_mass: bool = True
    ):
        labels_array = np.asarray(labels)
        self.malignant, self.benign = np.flatnonzero(labels_array == 1), np.flatnonzero(labels_array == 0)
        for slides, name in ((self.malignant, "malignant"), (self.benign, "benign")):
            if not len(slides):
                raise ValueError(f"the training slides hold no {name} one; both classes are needed")
        if slides_per_round < 2:
            raise ValueError(f"slides_per_round must be at least 2, one of each class; got {slides_per_round}")
        self.seed, self.error_mass = seed, error_mass
        per_class = min(slides_per_round // 2, len(self.malignant))
        self.rounds_per_epoch = -(-len(self.malignant) // per_class)
        sizes = [len(part) for part in np.array_split(self.malignant, self.rounds_per_epoch)]
        self._capacity = np.minimum(sizes, len(self.benign))  # benign slides in each round of an epoch
        self.max_epochs_unmapped = max_epochs_unmapped
        self.longest_wait = max_epochs_unmapped * self.rounds_per_epoch  # rounds
        reachable = int(self._capacity.sum()) * max_epochs_unmapped
        self._reachable = reachable
        if reachable < len(self.benign):
            needed = -(-len(self.benign) // int(self._capacity.sum()))
            raise ValueError(
                f"{len(self.benign)} benign slides cannot all be mapped within {max_epochs_unmapped} epochs "
                f"(max_epochs_unmapped): an epoch maps {int(self._capacity.sum())} of them, as many as there are "
                f"malignant slides, so that is {reachable}. Set max_epochs_unmapped to at least {needed}."
            )

    def choose(
        self,
        round_index: int,
        last_mapped: Sequence[int],
        sum_q: Sequence[float],
        left_out: Collection[int] = (),
    ) -> list[int]:
        """The slides of one round, malignant ones first.

        Args:
            round_index: 0, 1, ...
            last_mapped: the round each slide was mapped in last, -1 for never.
            sum_q: the sum of each slide's latest map.
            left_out: slides not to choose; malignant ones are not replaced.
        """
        epoch, position = divmod(round_index, self.rounds_per_epoch)
        # an order of its own in each epoch may leave a slide waiting for nearly two
        order = epoch if self.max_epochs_unmapped > 1 else 0  # another order may leave a slide waiting for two epochs
        shuffled = np.random.default_rng([self.seed, 1, order]).permutation(self.malignant)
        malignant = np.array_split(shuffled, self.rounds_per_epoch)[position]
        benign = self._choose_benign(round_index, np.asarray(last_mapped), np.asarray(sum_q), left_out)
        return [slide for slide in malignant.tolist() if slide not in left_out] + benign

    def fill(
        self,
        step: int,
        last_mapped: Sequence[int],
        sum_q: Sequence[float],
        cost: Sequence[float],
        budget: float,
        left_out: Collection[int] = (),
    ) -> tuple[dict[int, int], int]:
        """Slides of as many steps, from this one on, as fit a budget best; at least one step, at most an epoch.

        Returns:
            The step that chose each slide, none twice, and the step to go on with.
        """
        chosen: dict[int, int] = {}
        for _ in range(self.rounds_per_epoch):
            slides = self.choose(step, last_mapped, sum_q, {*left_out, *chosen})
            price = sum(cost[slide] for slide in slides)
            if chosen and budget < price / 2:
                break
            budget -= price
            chosen |= dict.fromkeys(slides, step)
            step += 1
        return chosen, step

    def _choose_benign(
        self, round_index: int, last_mapped: np.ndarray, sum_q: np.ndarray, left_out: Collection[int]
    ) -> list[int]:
        rng = np.random.default_rng([self.seed, 0, round_index])
        count = int(self._capacity[round_index % self.rounds_per_epoch])
        # Random keys E/mass sorted ascending are a draw without replacement in proportion to the mass.
        keys = rng.exponential(size=len(self.benign))
        if self.error_mass:
            keys /= np.maximum(sum_q[self.benign], 1e-300)
        there = ~np.isin(self.benign, list(left_out))
        benign, keys = self.benign[there], keys[there]
        waited_longest = np.lexsort((keys, last_mapped[benign]))
        first = waited_longest[: self._for_waiting(round_index + 1) - self._for_waiting(round_index)]
        others = np.setdiff1d(np.argsort(keys, kind="stable"), first, assume_unique=True)
        return benign[np.concatenate((first, others))[:count]].tolist()

    def _for_waiting(self, round_index: int) -> int:
        """Places in all rounds before this one that are for those who wait, evenly spread."""
        epochs, position = divmod(round_index, self.rounds_per_epoch)
        places = epochs * int(self._capacity.sum()) + int(self._capacity[:position].sum())
        return -(-places * len(self.benign) // self._reachable)
