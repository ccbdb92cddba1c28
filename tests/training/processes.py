"""Training processes for the tests: forked from a server that has imported everything, so that they start at once."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.training.conftest", "wsi_hf.training.trainer"])


def begin(target: Callable[..., None], *args, environment: dict[str, str] | None = None) -> BaseProcess:
    """Start target(*args) in a process of its own."""
    process = SERVER.Process(target=_run, args=(environment or {}, target, args))
    process.start()
    return process


def finish(process: BaseProcess, seconds: float = 900) -> None:
    """Wait for a process to end; one that hangs is killed, and the test fails."""
    process.join(seconds)
    hangs = process.is_alive()
    process.kill()
    assert not hangs


def run_ranks(ranks: int, target: Callable[..., None], *args) -> None:
    """Run target(*args) on so many ranks of one world, in an environment such as torchrun makes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environments = [{name: str(v) for name, v in {**world, "RANK": r, "LOCAL_RANK": r}.items()} for r in range(ranks)]
    processes = [begin(target, *args, environment=environment) for environment in environments]
    for process in processes:
        process.join(timeout=600)
    assert [process.exitcode for process in processes] == [0] * ranks


def processes_of(folder: Path) -> list[int]:
    """Live processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if str(folder).encode() in command and state != "Z":
                found.append(int(entry.name))
    return found


def wait_until(holds: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _run(environment: dict[str, str], target: Callable[..., None], args: tuple) -> None:
    os.environ.update(environment)
    target(*args)
