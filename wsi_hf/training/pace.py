"""How well training and mapping keep pace: who waits for whom, and how old the maps are."""

import time
from collections.abc import Sequence

from wsi_hf.sampling.map_store import MapStore, Round


class Pace:
    """Times of the training's rounds on this rank."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._waited_s = self._other_s = 0.0  # of this round
        self._unlogged_s = 0.0  # waited since the last log

    def waited(self, seconds: float) -> None:
        """The training waited so long for maps."""
        self._waited_s += seconds
        self._unlogged_s += seconds

    def pause(self, seconds: float) -> None:
        """So many seconds of this round went into something else than training."""
        self._other_s += seconds

    def end_round(self) -> float:
        """Seconds that the training worked since the round began, without waiting for maps."""
        return max(time.monotonic() - self._begun - self._waited_s - self._other_s, 0.0)

    def begin_round(self) -> None:
        self._begun = time.monotonic()
        self._waited_s = self._other_s = 0.0

    def logged(self) -> float:
        """Seconds that the training has waited for maps since the last call."""
        waited, self._unlogged_s = self._unlogged_s, 0.0
        return waited


def mapping_facts(store: MapStore, steps_per_round: int, steps: Sequence[int], rounds: Sequence[int]) -> dict:
    """What the log says of the mapping.

    mapper_wait_s: that the mapper waited for weights before its last finished round; slides_per_min: at which it
    mapped then; map_age: mean steps between the weights behind a patch's map and its use; mapped: share of the slides
    that were mapped at least once; lost_slides: how many are set aside.

    Args:
        steps, rounds: of patches: when they were used, and the round of their map, -1 for the default map.
    """
    newest = store.newest_round()
    index: Round = store.read(newest)
    ages = [step - r * steps_per_round for step, r in zip(steps, rounds, strict=True) if r >= 0]
    facts = {"mapped": round(sum(entry.round >= 0 for entry in index.entries) / len(index.entries), 4)}
    if newest >= 0:
        fresh = sum(entry.round == newest for entry in index.entries)
        facts["slides_per_min"] = round(60 * fresh / max(index.seconds, 1e-9), 1)
        facts["mapper_wait_s"] = round(index.waited_s, 2)
    if ages:
        facts["map_age"] = round(sum(ages) / len(ages), 1)
    lost = len(index.lost)
    return facts | ({"lost_slides": lost} if lost else {})
