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
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wsi_hf.sampling.probability_map import ProbabilityMap
from wsi_hf.slides.damaged import check_types, reading
from wsi_hf.slides.replacing import write_text

POLL_S = 0.02
FAILED = "failed.txt"


class MappingError(RuntimeError):
    """The mapping process failed for good."""


@dataclass(frozen=True)
class MapEntry:
    """A slide's latest map: its file, the round that made it (-1 = default), sum of Q, largest margin, tiles of tissue.

    step: the slide sampler's step that chose the slide last (-1 = never).
    """

    file: str
    round: int
    sum_q: float
    largest_margin: float
    tiles: int = 0
    step: int = -1


@dataclass(frozen=True)
class Round:
    """The index of a finished round: every slide's latest map, and how the mapping got on.

    steps: steps of the slide sampler so far. seconds: that the slowest mapper worked; waited_s: that it waited for
    weights. tiles_per_s: of all mappers. lost: the slides that are set aside, and why.
    """

    entries: list[MapEntry]
    steps: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    tiles_per_s: float = 0.0
    lost: dict[int, str] = field(default_factory=dict)


class MapStore:
    """Reads and writes the maps of one run.

    Args:
        folder: the run's mapping folder.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
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
        """Finish a round: write its index."""
        write_text(self.index_path(round_index), json.dumps(asdict(index)))

    def read(self, round_index: int) -> Round:
        path = self.index_path(round_index)
        with reading(path, "the index of a round", "go on from a checkpoint"):
            facts = json.loads(path.read_text())
            lost = {int(slide): reason for slide, reason in facts["lost"].items()}
            entries = [check_types(MapEntry(**entry)) for entry in facts["entries"]]
            if outside := [entry.file for entry in entries if Path(entry.file).name != entry.file]:
                raise ValueError(f"it names {outside[0]}, outside its folder")
            return check_types(Round(**{**facts, "entries": entries, "lost": lost}))

    def finished(self) -> list[int]:
        """The rounds whose index is here, in order; -1 is that of the default maps."""
        return sorted(int(path.stem) for path in (self.folder / "rounds").glob("*.json"))

    def newest(self) -> Round:
        """The index of the last finished round."""
        return self.read(self.newest_round())

    def newest_round(self) -> int:
        """The last finished round.

        Raises:
            MappingError: there is none any more.
        """
        finished = self.finished()
        if not finished:
            raise MappingError(f"{self.folder} was removed while the training ran")
        return finished[-1]

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

    def live_files(self) -> list[Path]:
        """What a run needs that goes on from here, but for the default maps, which are made again from the slides.

        The indexes that are kept, the maps they name, and the weights of rounds that are still to be mapped.
        """
        finished = self.finished()
        maps = {entry.file for r in finished for entry in self.read(r).entries if entry.round >= 0}
        return [
            *(self.index_path(r) for r in finished if r >= 0),
            *(self.folder / "maps" / file for file in sorted(maps)),
            *(self.weights_path(r) for r in self._handed_over() if r > finished[-1]),
        ]

    def forget_before(self, round_index: int) -> None:
        """Drop the indexes before this one, but never the newest, and what none of the kept ones names.

        To be called by nobody but the process that trains and saves: what it has listed then stays where it is.
        """
        newest, finished = self.newest_round(), self.finished()
        for r in finished[:-1]:
            if 0 <= r < round_index:
                self.index_path(r).unlink()
        kept = {entry.file for r in self.finished() for entry in self.read(r).entries}
        for path in (self.folder / "maps").glob("*.safetensors"):
            made = int(path.name.split(".")[-2])
            if 0 <= made < newest and path.name not in kept:  # later ones may not be in an index yet
                path.unlink()
        # claims and what is done are those of mappers that were slower than another one with the same slide
        mapped = [self.weights_path(r) for r in self._handed_over()]
        for path in [*mapped, *self.folder.glob("claims/[0-9]*"), *self.folder.glob("done/[0-9]*")]:
            if int(path.name.split(".")[0]) < newest:
                path.unlink(missing_ok=True)

    def _handed_over(self) -> list[int]:
        return sorted(int(path.stem) for path in (self.folder / "weights").glob("[0-9]*.safetensors"))


def report_failure(folder: Path, said: str) -> None:
    """Tell all who wait for maps that there will be none; on a full disk without saying why."""
    try:
        write_text(folder / FAILED, said)
    except OSError:
        (folder / FAILED).touch()


def wait_for(path: Path, folder: Path, check: Callable[[], None] = lambda: None) -> None:
    """Return when `path` exists.

    Args:
        check: called meanwhile; may raise what ends the waiting.

    Raises:
        MappingError: `failed.txt` appeared in the mapping folder instead.
    """
    failed = folder / FAILED
    while not path.exists():
        trainer = multiprocessing.parent_process()  # None but in a data worker
        if trainer is not None and not trainer.is_alive():
            raise MappingError("the training process is gone")
        check()
        if failed.exists():
            said = failed.read_text() or f"nothing could be written in {folder}; the disk may be full"
            raise MappingError(f"the mapping process failed:\n{said}")
        if not (folder / "rounds" / "-1.json").exists():
            raise MappingError(f"{folder} was removed while the training ran")
        time.sleep(POLL_S)
