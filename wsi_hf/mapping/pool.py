"""The slides of one round, taken one by one by any number of mappers, wherever they run.

done/<round>.plan.json         which slides the round maps: the first mapper writes it, all read it
claims/<round>.<slide>         a mapper's lease on a slide; a dead mapper's falls back
done/<round>.<slide>.json      the slide is mapped, or cannot be: its entry in the index, or why
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wsi_hf.mapping.lease import Lease, Watch, write_once
from wsi_hf.sampling.map_store import MapEntry, MapStore, Round

CLAIMS, DONE = "claims", "done"


@dataclass(frozen=True)
class Plan:
    """What a round maps: each slide with its step of the slide sampler, most tissue first; the sampler's steps so far.

    lost: the slides that are set aside, and why.
    """

    slides: dict[int, int]
    steps: int
    lost: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: dict) -> "Plan":
        slides, lost = ({int(slide): value for slide, value in facts[name].items()} for name in ("slides", "lost"))
        return cls(slides, facts["steps"], lost)


@dataclass(frozen=True)
class Mapped:
    """What became of a slide: its new entry, or the reason why it keeps the old one; who took how many seconds."""

    entry: MapEntry
    lost: str
    mapper: str
    seconds: float


class RoundPool:
    """One round's slides, as one mapper sees them."""

    def __init__(self, store: MapStore, round_index: int, watch: Watch):
        self.store, self.round_index, self.watch = store, round_index, watch
        for name in (CLAIMS, DONE):
            (store.folder / name).mkdir(exist_ok=True)

    def plan(self, make: Callable[[], Plan]) -> Plan:
        """The round's plan; made now if nobody has."""
        path = self.store.folder / DONE / f"{self.round_index}.plan.json"
        if not path.exists():
            write_once(path, json.dumps(asdict(make())))
        return Plan.of(json.loads(path.read_text()))

    @property
    def finished(self) -> bool:
        return self.store.index_path(self.round_index).exists()

    def claim(self, plan: Plan) -> tuple[int, Lease] | None:
        """The next slide that nobody has mapped or maps; None if there is none for now."""
        for slide in plan.slides:
            if self._mark(slide).exists():
                continue
            lease = Lease.take(self.store.folder / CLAIMS / f"{self.round_index}.{slide}", self.watch)
            if lease is None:
                continue
            if self._mark(slide).exists() or self.finished:  # meanwhile
                lease.release()
                continue
            return slide, lease
        return None

    def done(self, slide: int, mapped: Mapped) -> None:
        write_once(self._mark(slide), json.dumps(asdict(mapped)))

    def results(self, plan: Plan) -> dict[int, Mapped] | None:
        """What became of all slides; None while some are missing."""
        try:
            facts = {slide: json.loads(self._mark(slide).read_text()) for slide in plan.slides}
        except FileNotFoundError:
            return None
        return {slide: Mapped(**{**each, "entry": MapEntry(**each["entry"])}) for slide, each in facts.items()}

    def publish(self, index: Round) -> None:
        """Finish the round, unless another mapper has. Others may still read what it came from; the trainer clears it
        away later.
        """
        write_once(self.store.index_path(self.round_index), json.dumps(asdict(index)))

    def _mark(self, slide: int) -> Path:
        return self.store.folder / DONE / f"{self.round_index}.{slide}.json"
