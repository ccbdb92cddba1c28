"""A mapping process: it joins the training that goes on in a folder, maps for it, and may leave at any time.

It is no rank of the training and knows it by the files of the mapping folder only. `wsi-hf map`, the trainer's child
and a mapping rank are all this.

    training.lease     a training goes on; a new one, or one resumed, has another session
    mappers/*          the leases of those that map
"""

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import torch

from wsi_hf.mapping.lease import Lease, Watch, read_holder
from wsi_hf.mapping.mapper import Mapper, MappingSettings
from wsi_hf.mapping.pool import CLAIMS
from wsi_hf.sampling.map_store import MappingError, MapStore

logger = logging.getLogger(__name__)

TRAINING, MAPPERS = "training.lease", "mappers"
ARRIVAL_S, CHECK_S, POLL_S = 600.0, 0.5, 0.1


class TrainingEndedError(Exception):
    """There is nothing to map for any more."""


class OpenTraining:
    """The training that a mapper works for, as its lease tells."""

    def __init__(self, folder: Path, watch: Watch):
        self.folder, self._lease, self._watch, self._checked = folder, folder / TRAINING, watch, 0.0
        self.session = read_holder(self._lease).get("session") if self._lease.exists() else None

    def check(self) -> None:
        """Look, at most every `CHECK_S`, whether it still goes on.

        Raises:
            TrainingEndedError: it does not, or another one has begun.
        """
        if time.monotonic() - self._checked > CHECK_S:
            self._checked = time.monotonic()
            if not self.goes_on():
                raise TrainingEndedError

    def goes_on(self) -> bool:
        try:
            return not self._watch.gone(self._lease) and read_holder(self._lease).get("session") == self.session
        except FileNotFoundError:
            return False


def open_training(folder: Path) -> Lease:
    """Tell the mappers that a training goes on here, until the lease is released; called by the trainer alone."""
    (folder / TRAINING).unlink(missing_ok=True)
    lease = Lease.take(folder / TRAINING, session=uuid.uuid4().hex)
    assert lease is not None
    return lease


def join(folder: Path, device: str | None, leave: Callable[[float], bool]) -> None:
    """Map for the trainings of a folder, one after the other.

    Args:
        device: where the network runs; by default what Accelerate chooses.
        leave: asked while no training goes on, with the seconds since when; True ends it.

    Raises:
        MappingError: somebody gave the training up.
    """
    watch, idle_since = Watch(), time.monotonic()
    while True:
        if watch.gone(folder / TRAINING):
            if leave(time.monotonic() - idle_since):
                return
            time.sleep(POLL_S)
            continue
        training = OpenTraining(folder, watch)
        try:
            _map_for(training, device)
        except TrainingEndedError:
            logger.info("the training in %s has ended", folder)
        except MappingError:
            raise
        except Exception:
            if training.goes_on():  # else its files are being cleared away
                raise
        idle_since = time.monotonic()


def alive(folder: Path, watch: Watch) -> list[Path]:
    """The leases of the processes that map."""
    return [path for path in sorted((folder / MAPPERS).glob("*")) if not watch.gone(path)]


def forget_dead(folder: Path) -> None:
    """Remove the leases of mappers that ended, or were killed, before they let go of them."""
    watch = Watch()
    for path in (path for name in (MAPPERS, CLAIMS) for path in (folder / name).glob("*")):
        if watch.gone(path):
            path.unlink(missing_ok=True)


def _map_for(training: OpenTraining, device: str | None) -> None:
    folder = training.folder
    settings = MappingSettings.load(folder)
    torch.set_num_threads(settings.threads)
    name = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    presence = Lease.take(folder / MAPPERS / name)
    try:
        here = [path for path in alive(folder, Watch()) if path.name.startswith(f"{socket.gethostname()}.")]
        mapper = Mapper(settings, device or accelerator_device(), training.check, max(1, len(here)))
        while True:
            mapper.map_round(MapStore(folder).finished()[-1] + 1)
    finally:
        if presence:
            presence.release()


def accelerator_device() -> torch.device:
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.accelerator.is_available()).device
