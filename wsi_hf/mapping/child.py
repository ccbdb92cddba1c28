"""A mapping process as a child of the trainer: started, watched, started again once, ended.

It lives in a session of its own, so that a signal to the trainer's group does not reach it, and ends with its trainer.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from wsi_hf.sampling.map_store import report_failure

logger = logging.getLogger(__name__)

# What accelerate and torchrun put into the environment; a mapping child is a world of its own.
DISTRIBUTED_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK")
DISTRIBUTED_PREFIXES = ("MASTER_", "TORCHELASTIC_")


class MappingChild:
    """One mapping process and its keeper.

    Args:
        folder: the run's mapping folder.
        threads: of torch.
        device: the value for its Accelerator, or None for its choice.
    """

    def __init__(self, folder: str, threads: int, device: str | None):
        self.folder, self.threads, self.device = Path(folder), threads, device
        self.process: subprocess.Popen | None = None
        self._watcher: threading.Thread | None = None
        self._closing = False
        self._launching = threading.Lock()

    def start(self) -> None:
        self._closing = False
        self.launch()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """End it; a round that it has begun is not needed any more."""
        with self._launching:
            self._closing = True
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._watcher:
            self._watcher.join(timeout=10)

    def launch(self) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in DISTRIBUTED_VARIABLES and not name.startswith(DISTRIBUTED_PREFIXES)
        }
        environment["OMP_NUM_THREADS"] = str(self.threads)
        if self.device:
            environment["ACCELERATE_TORCH_DEVICE"] = self.device
        command = [sys.executable, "-m", __name__, str(self.folder), str(os.getpid())]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _watch(self) -> None:
        """Wait for the child in a thread. A dead one is started again once; the second death stops the training."""
        for attempt in (1, 2):
            assert self.process is not None
            code = self.process.wait()
            said = f"the mapping process (pid {self.process.pid}) ended with code {code}"
            with self._launching:
                if self._closing:
                    return
                if attempt == 1:
                    logger.warning("%s; it is started again. Its log: %s", said, self.log_path)
                    self.launch()
        tail = self.log_path.read_text(errors="replace")[-4000:]
        report_failure(
            self.folder, f"{said}, twice. The end of {self.log_path} (empty where the disk is full):\n{tail}"
        )

    @property
    def log_path(self) -> Path:
        return self.folder / "mapping.log"


def run_child(folder: str, parent: int) -> None:
    """The mapping process itself: it maps until the training or its trainer ends."""
    import wsi_hf.registration  # noqa: F401 - registers the model with the Auto classes
    from wsi_hf.mapping.joining import join

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # lets go of what it has claimed
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    join(Path(folder), None, leave=lambda idle_s: True)


def _die_with(parent: int) -> None:
    """A mapping process whose keeper is gone, even by SIGKILL, ends within a second."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    try:
        run_child(sys.argv[1], int(sys.argv[2]))
    except Exception:
        traceback.print_exc()
        sys.exit(1)
