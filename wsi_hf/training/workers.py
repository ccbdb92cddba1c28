"""Data workers that leave signals to the trainer and do not outlive it.

A signal to the whole process group (Ctrl-C, SLURM, docker stop) would end them first, and the training with an error
instead of a checkpoint.
"""

import copy
import multiprocessing
import os
import signal
import threading
from multiprocessing import context
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def in_own_groups(method: str | BaseContext | None) -> BaseContext:
    """A multiprocessing context whose processes each make a process group of their own; as it is on Windows.

    Args:
        method: "fork", "spawn", "forkserver", a context, or None for the default.
    """
    given = method if isinstance(method, BaseContext) else multiprocessing.get_context(method)
    if not hasattr(signal, "pthread_sigmask"):
        return given
    ours: Any = copy.copy(given)
    ours.Process = {"fork": ForkedWorker, "spawn": SpawnedWorker, "forkserver": ServedWorker}[given.get_start_method()]
    return ours


class _Worker(BaseProcess):
    def start(self) -> None:
        """Start with signals held back, in a server that forks it too, until it has left the group."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self) -> None:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the loader ends it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        threading.Thread(target=_die_with_parent, daemon=True).start()
        super().run()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class SpawnedWorker(_Worker, context.SpawnProcess):
    pass


if hasattr(context, "ForkProcess"):  # absent on Windows

    class ForkedWorker(_Worker, context.ForkProcess):
        pass

    class ServedWorker(_Worker, context.ForkServerProcess):
        pass
