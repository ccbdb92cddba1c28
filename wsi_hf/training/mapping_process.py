"""The mapping process beside the training, in step with it: round t is mapped while round t is trained.

At the end of round t - 1 the trainer hands over its weights; the maps made from them are drawn from in round t + 1.
Whether a child process maps or the trainer itself, between two rounds, changes nothing but the time it takes.
"""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..sampling.map_store import write_text
from .mapping import Mapper, MappingSettings, save_weights

logger = logging.getLogger(__name__)

# What accelerate and torchrun put into the environment; a mapping child is a world of its own.
DISTRIBUTED_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK")
DISTRIBUTED_PREFIXES = ("MASTER_", "TORCHELASTIC_")


class MappingProcess:
    """The trainer's side of the mapping.

    Args:
        placement: "inline", the ranks map their shares between two rounds; "child", a process beside rank 0 maps.
        device: where an inline mapping runs; for a child the value for its Accelerator, or None for its choice.
        rank, ranks: this trainer's number among all.
    """

    def __init__(self, settings: MappingSettings, placement: str, device: str | None, rank: int, ranks: int):
        self.settings, self.placement, self.device = settings, placement, device
        self.rank, self.ranks = rank, ranks
        self.inline_s = 0.0
        self._mapper: Mapper | None = None
        self._child: subprocess.Popen | None = None
        self._watcher: threading.Thread | None = None
        self._closing = False

    def start(self, round_index: int) -> None:
        """Begin with this round; its weights are handed over next."""
        if self.placement == "inline":
            self._mapper = Mapper(self.settings, self.device or "cpu", self.rank, self.ranks)
        elif self.rank == 0:
            self._launch(round_index)
            self._watcher = threading.Thread(target=self._watch, args=(round_index,), daemon=True)
            self._watcher.start()

    def hand_over(self, round_index: int, model: PreTrainedModel) -> None:
        """Give the weights of the end of the round before to the mapping of this round."""
        path = self.settings.store.weights_path(round_index)
        if self.rank == 0 and not path.exists():
            save_weights(model, path)
        if self._mapper:
            started = time.monotonic()
            threads = torch.get_num_threads()
            torch.set_num_threads(self.settings.threads)
            self._mapper.map_round(round_index)
            torch.set_num_threads(threads)
            self.inline_s += time.monotonic() - started

    def close(self) -> None:
        """End the child, if there is one; a round that it has begun is not needed any more."""
        self._closing = True
        if self._child and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._watcher:
            self._watcher.join(timeout=10)

    def _launch(self, round_index: int) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in DISTRIBUTED_VARIABLES and not name.startswith(DISTRIBUTED_PREFIXES)
        }
        environment["OMP_NUM_THREADS"] = str(self.settings.threads)
        if self.device:
            environment["ACCELERATE_TORCH_DEVICE"] = self.device
        command = [sys.executable, "-m", __name__, self.settings.folder, str(round_index), str(os.getpid())]
        with open(self._log_path, "ab") as log:
            self._child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _watch(self, round_index: int) -> None:
        """Wait for the child in a thread. A dead one is started again once; the second death stops the training."""
        for attempt in (1, 2):
            assert self._child is not None
            code = self._child.wait()
            if self._closing:
                return
            said = f"the mapping process (pid {self._child.pid}) ended with code {code}"
            if attempt == 1:
                logger.warning("%s; it is started again. Its log: %s", said, self._log_path)
                finished = [int(path.stem) for path in (Path(self.settings.folder) / "rounds").glob("*.json")]
                self._launch(max([round_index, *(r + 1 for r in finished)]))
        tail = self._log_path.read_text(errors="replace")[-4000:]
        write_text(
            Path(self.settings.folder) / "failed.txt",
            f"{said}, twice. The end of {self._log_path} (empty where the disk is full):\n{tail}",
        )

    @property
    def _log_path(self) -> Path:
        return Path(self.settings.folder) / "mapping.log"


class FolderLock:
    """Keeps a second run out of a mapping folder; freed when the process ends, however it ends."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / "lock", "a")  # noqa: SIM115 - held open for as long as the lock
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise RuntimeError(
                f"another run is using {folder.parent}; give this one an --output_dir of its own"
            ) from None

    def release(self) -> None:
        self._file.close()


def run_child(folder: str, first_round: int, parent: int) -> None:
    """The mapping process itself: map round after round, as their weights come, until the trainer ends."""
    from accelerate import Accelerator

    import wsi_hf  # noqa: F401 - registers the model with the Auto classes

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle; it then ends this process
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    settings = MappingSettings.load(folder)
    torch.set_num_threads(settings.threads)
    mapper = Mapper(settings, Accelerator(cpu=not torch.accelerator.is_available()).device)
    round_index = first_round
    while True:
        mapper.map_round(round_index)
        round_index += 1


def _die_with(parent: int) -> None:
    """A mapping process whose trainer is gone, even by SIGKILL, ends within a second."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    try:
        run_child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except Exception:
        traceback.print_exc()
        sys.exit(1)
