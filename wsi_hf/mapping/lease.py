"""Leases: files that only one process can create, that it keeps fresh while it lives, and that fall back when it dies.

A holder of this machine is asked for by its number; one elsewhere is believed dead when its file has not changed for
`SILENCE_S` by this process's own clock, for clocks differ and network drives show changes late. Nothing depends on a
lease being held by one process only: two that work on the same slide write the same map.
"""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

BEAT_S, SILENCE_S = 2.0, 60.0


class Lease:
    """A lease that this process holds, and touches every `BEAT_S` until it lets go."""

    def __init__(self, path: Path):
        self.path, self._released = path, threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    @classmethod
    def take(cls, path: Path, watch: "Watch | None" = None, **facts: Any) -> "Lease | None":
        """Take a lease; None if somebody else holds it, unless that one is gone by what `watch` has seen.

        Args:
            facts: what the file says beside its holder.
        """
        for _ in range(2):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(path, "x") as file:
                    file.write(json.dumps(_myself() | facts))
                return cls(path)
            except FileExistsError:
                if watch is None or not watch.gone(path):
                    return None
                path.unlink(missing_ok=True)
        return None

    def release(self) -> None:
        self._released.set()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            with suppress(OSError):
                os.utime(self.path)


class Watch:
    """Tells whose leases are gone, by this process's clock."""

    def __init__(self, silence_s: float | None = None):
        self.silence_s = silence_s
        self._seen: dict[Path, tuple[int, float]] = {}

    def gone(self, path: Path) -> bool:
        """Whether nobody holds the lease any more."""
        try:
            changed, holder = path.stat().st_mtime_ns, read_holder(path)
        except FileNotFoundError:
            return True
        if holder.get("machine") == _machine() and not _lives(holder):
            return True
        seen = self._seen.get(path)
        if seen is None or seen[0] != changed:
            self._seen[path] = (changed, time.monotonic())
            return False
        return time.monotonic() - seen[1] > (SILENCE_S if self.silence_s is None else self.silence_s)


def read_holder(path: Path) -> dict[str, Any]:
    """Who holds a lease, and its facts; empty while it is being written.

    Raises:
        FileNotFoundError: nobody does.
    """
    try:
        return json.loads(path.read_text())
    except ValueError:
        return {}


def write_once(path: Path, text: str) -> None:
    """Write a small file unless somebody else has; who comes second finds what the first one wrote."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # no hard links here: two that write at once write the same but for measured times
            if not path.exists():
                os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _machine() -> str:
    """Where process numbers mean the same: the host, and the container on it."""
    try:
        inside = os.readlink("/proc/self/ns/pid")
    except OSError:
        inside = ""
    return f"{socket.gethostname()} {inside}"


def _myself() -> dict[str, Any]:
    return {"machine": _machine(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def _lives(holder: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(holder["pid"])
        same = abs(process.create_time() - holder["born"]) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
