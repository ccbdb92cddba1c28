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

from wsi_hf.sampling.probability_map import ProbabilityMap
from wsi_hf.slides.replacing import write_text

POLL_S = 0.02
FAILED = "failed.txt"


class MappingError(RuntimeError):
    """The mapping process failed for good."""


@dataclass(frozen=True)
class MapEntry:
    """A slide's latest map: its file, the round that made it (-1 = default), sum of Q, largest margin, tiles of tissue.

    step: the slide sampler's step that chose the slide last (-1 = never). lost: why the slide is set aside, or empty;
    stamp: what its file looked like then.
    """

    file: str
    round: int
    sum_q: float
    largest_margin: float
    tiles: int = 0
    step: int = -1
    lost: str = ""
    stamp: str = ""


@dataclass(frozen=True)
class Round:
    """The index of a finished round: every slide's latest map, and how the mapping got on.

    steps: steps of the slide sampler so far. seconds: that the slowest mapper worked; waited_s: that it waited for
    weights. tiles_per_s: of one mapper.
    """

    entries: list[MapEntry]
    steps: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    tiles_per_s: float = 0.0

    @property
    def lost(self) -> dict[int, str]:
        """The slides that are set aside, and why."""
        return {slide: entry.lost for slide, entry in enumerate(self.entries) if entry.lost}


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
        tiles = len(probability_map.origins_px)
        return MapEntry(file, round_index, probability_map.sum_q, probability_map.largest_margin, tiles)

    def load_map(self, file: str) -> ProbabilityMap:
        return ProbabilityMap.load(self.folder / "maps" / file)

    def index_path(self, round_index: int) -> Path:
        return self.folder / "rounds" / f"{round_index}.json"

    def weights_path(self, round_index: int) -> Path:
        return self.folder / "weights" / f"{round_index}.safetensors"

    def publish(self, round_index: int, index: Round) -> None:
        """Finish a round: write its index, then drop what no reader can ask for any more."""
        write_text(self.index_path(round_index), json.dumps(asdict(index)))
        self._forget_before(round_index - 2 - self.lag)

    def read(self, round_index: int) -> Round:
        facts = json.loads(self.index_path(round_index).read_text())
        return Round(**{**facts, "entries": [MapEntry(**entry) for entry in facts["entries"]]})

    def finished(self) -> list[int]:
        """The rounds whose index is here, in order; -1 is that of the default maps."""
        return sorted(int(path.stem) for path in (self.folder / "rounds").glob("*.json"))

    def newest(self) -> Round:
        """The index of the last finished round."""
        return self.read(self.finished()[-1])

    def wait(self, round_index: int) -> Round:
        """The index of a round, as soon as it is finished.

        Raises:
            MappingError: the mapping process failed; the message holds its traceback.
            ValueError: the round is not kept any more.
        """
        finished = self.finished()
        if finished and finished[-1] > round_index and not self.index_path(round_index).exists():
            raise ValueError(
                f"the maps of round {round_index} are not kept any more. Resume with the shuffle_buffer, batch and "
                "number of processes that the checkpoint was saved under"
            )
        wait_for(self.index_path(round_index), self.folder)
        return self.read(round_index)

    def files_for(self, round_index: int) -> list[Path]:
        """What a run needs that goes on in this round.

        The indexes and maps that its next patches are drawn from, and the weights of the rounds that are still to be
        mapped: a mapping process may be behind the training by as many rounds as the shuffle buffer holds.
        """
        finished = self.finished()
        first = min(round_index - 1 - self.lag, finished[-1])
        indexes = [r for r in finished if first <= r <= round_index and r >= 0]
        maps = {self.folder / "maps" / entry.file for r in indexes for entry in self.read(r).entries}
        unmapped = [r for r in range(finished[-1] + 1, round_index + 1) if self.weights_path(r).exists()]
        return [*map(self.index_path, indexes), *sorted(maps), *map(self.weights_path, unmapped)]

    def _forget_before(self, round_index: int) -> None:
        finished = self.finished()
        stale = [r for r in finished if 0 <= r < round_index]
        if not stale:
            return
        kept = {entry.file for r in finished if r not in stale for entry in self.read(r).entries}
        for r in stale:
            self.index_path(r).unlink()
        for path in (self.folder / "maps").glob("*.safetensors"):
            if path.name not in kept and int(path.name.split(".")[-2]) <= finished[-1]:
                path.unlink()
        # the parts are those of mappers that were started again after their share was merged
        for path in [*(self.folder / "weights").glob("*.safetensors"), *(self.folder / "rounds").glob("[0-9]*.part*")]:
            if int(path.name.split(".")[0]) < round_index:
                path.unlink(missing_ok=True)


def report_failure(folder: Path, said: str) -> None:
    """Tell all who wait for maps that there will be none; on a full disk without saying why."""
    try:
        write_text(folder / FAILED, said)
    except OSError:
        (folder / FAILED).touch()


def wait_for(path: Path, folder: Path) -> None:
    """Return when `path` exists.

    Raises:
        MappingError: `failed.txt` appeared in the mapping folder instead.
    """
    failed = folder / FAILED
    while not path.exists():
        trainer = multiprocessing.parent_process()  # None but in a data worker
        if trainer is not None and not trainer.is_alive():
            raise MappingError("the training process is gone")
        if failed.exists():
            said = failed.read_text() or f"nothing could be written in {folder}; the disk may be full"
            raise MappingError(f"the mapping process failed:\n{said}")
        time.sleep(POLL_S)
