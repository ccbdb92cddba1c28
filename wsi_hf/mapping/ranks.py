"""`--mapping ranks`: the last M of the N + M processes of one `accelerate launch` map, the first N train.

The two groups share no torch.distributed world, for the trainer's collectives and its DDP need one of N processes. So
the ranks take up their roles before any process group exists: a training rank goes on with a WORLD_SIZE of N, a mapping
rank leaves the script where it builds its arguments, keeps a mapping child, and knows the trainer by the files of the
mapping folder only, which all nodes must see.

    ranks/trainer.json              training rank 0 is alive: touched every few seconds
    ranks/<worker>.<id>.json        a mapping rank is alive and waits for its part
    ranks/session.json              the training has begun with these mapping ranks; its absence ends their mapping
"""

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from multiprocessing.util import Finalize
from pathlib import Path
from typing import NoReturn

from wsi_hf.mapping.child import MappingChild
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.sampling.map_store import FAILED, report_failure
from wsi_hf.slides.replacing import write_text

logger = logging.getLogger(__name__)

SPLIT = "WSI_HF_RANKS_SPLIT"
"""Set in the environment of a training rank once the ranks have their roles."""
BEAT_S, POLL_S = 2.0, 0.1
SILENCE_S, SILENCE_WHEN_ASKED_S, AWAY_S = 120.0, 10.0, 3.0
"""Who has given no sign of life for so long is gone: network drives show changes late, but a launcher that has asked
its processes to end kills them after 30 s. A file that is taken away on purpose is believed sooner."""
ARRIVAL_S = 600.0


def take_role(mapping_ranks: int, folder: Path) -> int | None:
    """Decide what this process does; to be called before any process group exists.

    Returns:
        This process's number among the mapping ranks; None for a training rank, whose environment now says so.

    Raises:
        ValueError: there are not enough processes, or a process group exists already.
    """
    if SPLIT in os.environ:
        return None
    from accelerate.state import PartialState

    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    training = world - mapping_ranks
    if training < 1 or mapping_ranks < 1:
        raise ValueError(
            f"mapping 'ranks' needs at least one process that trains and one that maps; of {world} processes "
            f"mapping_ranks = {mapping_ranks} map. Start more: accelerate launch --num_processes {mapping_ranks + 1}"
        )
    if PartialState._shared_state:
        raise ValueError("with mapping 'ranks' build WsiTrainingArguments before any Accelerator or process group")
    if rank >= training:
        return rank - training
    os.environ[SPLIT] = "1"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    first_here = rank - int(os.environ.get("LOCAL_RANK", str(rank)))
    os.environ["LOCAL_WORLD_SIZE"] = str(min(local, training - first_here))
    os.environ["WORLD_SIZE"] = str(training)
    if rank == 0:
        beat = _Beat(folder / "ranks" / "trainer.json")
        beat.start()
        Finalize(None, beat.stop, exitpriority=0)  # as atexit, but also where a launcher has forked this process
    return None


class MappingRanks:
    """Training rank 0's side: begins and ends the session of the mapping ranks, and misses those that are gone."""

    def __init__(self, folder: str, workers: int):
        self.folder, self.workers = Path(folder), workers
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self, round_index: int) -> None:
        """Begin with this round, once all mapping ranks are there.

        Raises:
            RuntimeError: some do not come.
        """
        self._ended.clear()
        self._session.unlink(missing_ok=True)
        for path in self._session.parent.glob("[0-9]*.json"):  # who is alive comes back
            path.unlink(missing_ok=True)
        deadline = time.monotonic() + ARRIVAL_S
        while len(there := self._there()) < self.workers:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"only {len(there)} of {self.workers} mapping ranks have come; "
                    f"all nodes must see {self.folder} under this path"
                )
            time.sleep(POLL_S)
        write_text(self._session, json.dumps({"round": round_index, "mappers": [there[w] for w in sorted(there)]}))
        self._watcher = threading.Thread(target=self._watch, args=([there[w] for w in sorted(there)],), daemon=True)
        self._watcher.start()

    def close(self) -> None:
        self._ended.set()
        self._session.unlink(missing_ok=True)
        if self._watcher:
            self._watcher.join(timeout=10)

    def _watch(self, names: list[str]) -> None:
        files = [self._session.with_name(f"{name}.json") for name in names]
        signs = [_SignOfLife(file) for file in files]
        try:
            facts = [json.loads(file.read_text()) for file in files]
        except FileNotFoundError as error:
            report_failure(self.folder, f"a mapping rank is gone as soon as it came: {error}")
            return
        near = [fact["host"] == socket.gethostname() and _exists(fact["pid"]) for fact in facts]
        while not self._ended.wait(POLL_S):
            for worker, sign in enumerate(signs):
                fact = facts[worker]
                if sign.gone() or (near[worker] and not _exists(fact["pid"])):
                    said = f"the mapping rank {worker} (pid {fact['pid']} on {fact['host']}) is gone"
                    report_failure(self.folder, said)
                    return

    def _there(self) -> dict[int, str]:
        """Worker -> the name that its mapping rank goes by."""
        return {int(path.stem.split(".")[0]): path.stem for path in self._session.parent.glob("[0-9]*.json")}

    @property
    def _session(self) -> Path:
        return self.folder / "ranks" / "session.json"


def serve(folder: Path, worker: int, workers: int, device: str | None) -> NoReturn:
    """Be a mapping rank: map whatever the trainer trains, and exit when it is gone.

    Args:
        device: where this rank's mapping runs.
    """
    name = f"{worker}.{uuid.uuid4().hex}"
    beat, trainer = _Beat(folder / "ranks" / f"{name}.json"), _SignOfLife(folder / "ranks" / "trainer.json")
    beat.start()
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The training decides when to stop: until its step is done it needs its maps.
        signal.signal(number, lambda *_: asked.set())
    code = 0
    while not trainer.gone(SILENCE_WHEN_ASKED_S if asked.is_set() else SILENCE_S):
        first_round = _first_round(folder, name)
        if first_round is None:
            if asked.is_set():
                break
            time.sleep(POLL_S)
            continue
        settings = MappingSettings.load(folder)
        child = MappingChild(settings.folder, settings.threads, device, worker, workers)
        child.start(first_round)
        while _first_round(folder, name) is not None:
            if trainer.gone(SILENCE_WHEN_ASKED_S if asked.is_set() else SILENCE_S):
                break
            time.sleep(POLL_S)
        child.close()
        code = int((folder / FAILED).exists())
    beat.stop()
    sys.exit(code)


def _first_round(folder: Path, name: str) -> int | None:
    """The round that the open session began with, if this mapping rank takes part in it."""
    try:
        session = json.loads((folder / "ranks" / "session.json").read_text())
    except FileNotFoundError:
        return None
    return session["round"] if name in session["mappers"] else None


class _Beat:
    """A file that says that this process is alive; it is made again if somebody clears it away."""

    def __init__(self, path: Path):
        self.path, self._stopped = path, threading.Event()
        self._text = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=10)
        self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        touched = -BEAT_S
        while not self._stopped.wait(POLL_S):
            try:
                if not self.path.exists():
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    write_text(self.path, self._text)
                elif time.monotonic() - touched > BEAT_S:
                    os.utime(self.path)
                    touched = time.monotonic()
            except OSError as error:
                logger.warning("%s cannot be written: %s", self.path, error)


class _SignOfLife:
    """Watches another process's `_Beat`, by this process's clock."""

    def __init__(self, path: Path):
        self.path, self._changed, self._heard = path, 0, time.monotonic()

    def gone(self, silence_s: float = SILENCE_S) -> bool:
        """Whether nothing was heard of it for so long, or its file, once seen, stays away."""
        try:
            changed = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            silence_s = min(silence_s, AWAY_S) if self._changed else silence_s
        else:
            if changed != self._changed:
                self._changed, self._heard = changed, time.monotonic()
        return time.monotonic() - self._heard > silence_s


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
