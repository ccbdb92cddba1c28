"""Files and folders that appear under their name only when they are complete."""

import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

STALE_S = 24 * 3600
"""What nobody has written to for so long is nobody's."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`: what is written there takes the place of `path` at the end, or vanishes.

    The name is `.NAME.HOST.PID.RANDOM.part`: containers repeat process ids, and folders are shared by hosts.
    """
    path = Path(path)
    part = part_of(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """A temporary name for `path`, of which `remove_leftovers` knows whose it is."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")


def write_text(path: str | Path, text: str) -> None:
    """Write a small file that appears when it is complete."""
    with replacing(path) as part:
        part.write_text(text)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what processes that are no more left in a folder, of all files or those of one name: those of this host
    that have died, and what has not changed for a day."""
    for path in folder.glob(f".{name}.*.part"):
        found = re.search(r"\.([^.]+)\.(\d+)\.[0-9a-f]{8}\.part$", path.name)
        died = found and found[1] == _host() and not psutil.pid_exists(int(found[2]))
        if died or time.time() - _last_change(path) > STALE_S:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "host"


def _last_change(path: Path) -> float:
    """When anything in it changed; now, where its owner is removing it."""
    try:
        return max(entry.stat().st_mtime for entry in [path, *path.rglob("*")])
    except FileNotFoundError:
        return time.time()
