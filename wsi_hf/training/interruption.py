"""Ctrl-C and SIGTERM end a training tidily: the step is finished and a checkpoint saved."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

logger = logging.getLogger(__name__)

GRACE_S, POLL_S = 5.0, 0.2
"""A launcher that has asked its processes to end kills them after 30 s: who has waited for maps, or evaluated, for so
long after a signal, waits no more."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
LAUNCHERS = (TORCHRUN, "ACCELERATE_MIXED_PRECISION")
"""One of them is in the environment of a process that torchrun or accelerate has started."""
_watching: set[int] = set()
"""Processes whose launcher is watched: this one, and those that it is a fork of."""


class Abandoned(BaseException):
    """Between two steps a signal ended something that took too long; the state is that of the last step."""


class Interruption(TrainerCallback):
    """Within `with interruption:` a first signal stops the training after its step, a second one at once.

    A signal to one rank stops all. Before the first step, while tissue is being found, there is nothing to save: the
    first signal stops at once. The death of the launcher counts as a signal (`watch_launcher`).
    """

    def __init__(self) -> None:
        self.asked = False
        self.evaluation_due = False
        self._stepping = self._abandonable = self._overdue = False
        self._process = os.getpid()
        self._ended = threading.Event()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
            watch_launcher()
        return self

    def __exit__(self, *exception) -> None:
        self._ended.set()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def abandonable(self, evaluation: bool = False) -> Iterator[None]:
        """Between two steps: after a signal this may take `GRACE_S` more, or `Abandoned` is raised in it."""
        self._abandonable = True
        try:
            yield
        except Abandoned:
            self.evaluation_due = evaluation
            raise
        finally:
            self._abandonable = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # another process inherits this; when it ends is the trainer's to decide
        if self._overdue:
            self._overdue = False
            if self._abandonable:
                raise Abandoned
            return
        if not self._stepping:
            raise KeyboardInterrupt("stopped before the first step")
        if self.asked:
            raise KeyboardInterrupt("stopped at once")
        self.asked = True
        logger.warning("Stopping after this step and saving a checkpoint; once more to stop at once.")
        threading.Thread(target=self._insist, args=(number,), daemon=True).start()

    def _insist(self, number: int) -> None:
        """Interrupt what is abandonable once the grace is over."""
        self._ended.wait(GRACE_S)
        while not self._ended.wait(POLL_S):
            if self._abandonable:
                self._overdue = True
                os.kill(self._process, number)

    def on_step_begin(self, args, state, control, **kwargs):
        self._stepping = True

    def on_step_end(self, args, state, control, **kwargs):
        if args.world_size > 1:
            asked = torch.tensor(int(self.asked), device=args.device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self.asked = bool(asked)
        if self.asked:
            self.evaluation_due = control.should_evaluate
            control.should_evaluate = False
            control.should_save = control.should_training_stop = True


def watch_launcher() -> None:
    """From now on the death of the launcher counts as SIGTERM; without one, or called again, this does nothing.

    Else what a launcher leaves behind would wait for the others, or train to the end.
    """
    if any(name in os.environ for name in LAUNCHERS) and os.getpid() not in _watching:
        _watching.add(os.getpid())
        threading.Thread(target=_watch, args=(0 if _orphaned() else os.getppid(),), daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(1.0)
    logger.warning("the launcher is gone")
    _watching.discard(os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)


def _orphaned() -> bool:
    """Whether torchrun was gone before anybody watched it: its process now belongs to one that starts no training."""
    if TORCHRUN not in os.environ or os.getppid() != 1:
        return False
    return not any(word in " ".join(psutil.Process(1).cmdline()) for word in ("torch", "accelerate", "python"))
