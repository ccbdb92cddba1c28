"""The maps on disk and, for each finished round, the index of every slide's latest one.

    maps/<slide_id>.<round>.safetensors     never changed once written
    rounds/<round>.json                     its appearance finishes the round; round -1 holds the default maps
    failed.txt                              the mapping process gave up; its traceback

Readers in any process take the index of a round and open its maps; nothing is ever changed in place.
"""

import json
import multiprocessing
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .probability_map import ProbabilityMap

POLL_S = 0.02


class MappingError(RuntimeError):
    """The mapping process failed for good."""


@dataclass(frozen=True)
class MapEntry:
    """A slide's latest map: its file, the round that made it (-1 = default), sum of Q, largest margin."""

    file: str
    round: int
    sum_q: float
    largest_margin: float


class MapStore:
    """Reads and writes the maps of one run.

    Args:
        folder: the run's mapping folder.
        lag: rounds that a reader may be behind, beyond the current one (the shuffle buffer's depth).
    """

    def __init__(self, folder: str | os.PathLike, lag: int = 1):
        self.folder, self.lag = Path(folder), lag
        for name in ("maps", "rounds", "weights"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def save_map(self, probability_map: ProbabilityMap, round_index: int) -> MapEntry:
        file = f"{probability_map.slide_id}.{round_index}.safetensors"
        probability_map.save(self.folder / "maps" / file)
        return MapEntry(file, round_index, probability_map.sum_q, probability_map.largest_margin)

    def load_map(self, entry: MapEntry) -> ProbabilityMap:
        return ProbabilityMap.load(self.folder / "maps" / entry.file)

    def index_path(self, round_index: int) -> Path:
        return self.folder / "rounds" / f"{round_index}.json"

    def weights_path(self, round_index: int) -> Path:
        return self.folder / "weights" / f"{round_index}.safetensors"

    def publish(self, round_index: int, index: list[MapEntry]) -> None:
        """Finish a round: write its index, then drop what no reader can ask for any more."""
        write_text(self.index_path(round_index), json.dumps([asdict(entry) for entry in index]))
        self._forget_before(round_index - 2 - self.lag)

    def read(self, round_index: int) -> list[MapEntry]:
        return [MapEntry(**entry) for entry in json.loads(self.index_path(round_index).read_text())]

    def wait(self, round_index: int) -> list[MapEntry]:
        """The index of a round, as soon as it is finished.

        Raises:
            MappingError: the mapping process failed; the message holds its traceback.
        """
        wait_for(self.index_path(round_index), self.folder)
        return self.read(round_index)

    def files_of(self, first_round: int, last_round: int) -> list[Path]:
        """What a reader of these rounds needs: indexes, maps, and the weights of the last round."""
        indexes = [self.index_path(r) for r in range(first_round, last_round + 1) if self.index_path(r).exists()]
        maps = {self.folder / "maps" / entry.file for path in indexes for entry in self.read(int(path.stem))}
        weights = [self.weights_path(last_round)] if self.weights_path(last_round).exists() else []
        return [*indexes, *sorted(maps), *weights]

    def _forget_before(self, round_index: int) -> None:
        indexes = list((self.folder / "rounds").glob("*.json"))
        stale = [path for path in indexes if 0 <= int(path.stem) < round_index]
        if not stale:
            return
        newest = max(int(path.stem) for path in indexes)
        kept = {entry.file for path in indexes if path not in stale for entry in self.read(int(path.stem))}
        for path in stale:
            path.unlink()
        for path in (self.folder / "maps").glob("*.safetensors"):
            if path.name not in kept and int(path.name.split(".")[-2]) <= newest:
                path.unlink()
        for path in (self.folder / "weights").glob("*.safetensors"):
            if int(path.stem) < round_index:
                path.unlink()


def wait_for(path: Path, folder: Path) -> None:
    """Return when `path` exists.

    Raises:
        MappingError: `failed.txt` appeared in the mapping folder instead.
    """
    failed = folder / "failed.txt"
    while not path.exists():
        trainer = multiprocessing.parent_process()  # None but in a data worker
        if trainer is not None and not trainer.is_alive():
            raise MappingError("the training process is gone")
        if failed.exists():
            raise MappingError(f"the mapping process failed:\n{failed.read_text()}")
        time.sleep(POLL_S)


def write_text(path: Path, text: str) -> None:
    """Write a small file under a temporary name and rename it."""
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(text)
    os.replace(partial, path)
