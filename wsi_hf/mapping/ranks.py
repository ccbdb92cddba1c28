"""`--mapping ranks`: the last M of the N + M processes of one `accelerate launch` map, the first N train.

The two groups share no torch.distributed world, for the trainer's collectives and its DDP need one of N processes. So
the ranks take up their roles before any process group exists: a training rank goes on with a WORLD_SIZE of N, a mapping
rank leaves the script where it builds its arguments and joins the training (`mapping.joining`), whose folder all nodes
must see, until the first training rank's process is gone.
"""

import os
import signal
import sys
import threading
import time
from multiprocessing.util import Finalize
from pathlib import Path
from typing import NoReturn

from wsi_hf.mapping.lease import Lease, Watch
from wsi_hf.sampling.map_store import FAILED, report_failure

SPLIT = "WSI_HF_RANKS_SPLIT"
"""Set in the environment of a training rank once the ranks have their roles."""
TRAINER = "trainer.lease"
"""The process of training rank 0, from where it takes up its role to its end."""
NOBODY_S, POLL_S = 60.0, 0.5
"""A training that nobody has mapped for so long is given up; the first mapper may take longer to come."""


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
        (folder / TRAINER).unlink(missing_ok=True)
        lease = Lease.take(folder / TRAINER)
        assert lease is not None
        Finalize(None, lease.release, exitpriority=0)  # as atexit, but also where a launcher has forked this process
    return None


def serve(folder: Path, device: str | None) -> NoReturn:
    """Be a mapping rank: map whatever the trainer trains, and exit when it is gone.

    Args:
        device: where this rank's mapping runs.
    """
    from wsi_hf.mapping.joining import ARRIVAL_S, join

    asked, came, watch = threading.Event(), threading.Event(), Watch()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The training decides when to stop: until its step is done it needs its maps.
        signal.signal(number, lambda *_: asked.set())

    def leave(idle_s: float) -> bool:
        gone = watch.gone(folder / TRAINER)
        if not gone:
            came.set()
        return asked.is_set() or (gone and (came.is_set() or idle_s > ARRIVAL_S))

    import wsi_hf.registration  # noqa: F401 - registers the model with the Auto classes

    join(folder, device, leave)
    sys.exit(int((folder / FAILED).exists()))


class MappersWatch:
    """Training rank 0's side where it starts no mapper itself: a training that nobody maps does not wait for ever."""

    def __init__(self, folder: str):
        self.folder, self._ended = Path(folder), threading.Event()

    def start(self) -> None:
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        from wsi_hf.mapping.joining import ARRIVAL_S, alive

        watch, last, patience = Watch(), time.monotonic(), ARRIVAL_S
        while not self._ended.wait(POLL_S):
            if alive(self.folder, watch):
                last, patience = time.monotonic(), NOBODY_S
            elif time.monotonic() - last > patience:
                report_failure(
                    self.folder,
                    f"nobody has mapped for {patience:.0f} s; mapping processes must see {self.folder} under this "
                    f"path. Another one joins with: wsi-hf map {self.folder.parent}",
                )
                return
