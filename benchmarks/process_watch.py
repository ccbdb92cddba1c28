"""What the processes of a command hold while it runs; shared by the benchmarks of memory."""

import subprocess
import time
from collections.abc import Iterator

import psutil

SAMPLE_S = 1.0


def samples(process: subprocess.Popen) -> Iterator[list[tuple[str, int, int]]]:
    """Once a second while the command runs: (role, resident bytes, open files) of each of its processes."""
    root = psutil.Process(process.pid)
    while process.poll() is None:
        time.sleep(SAMPLE_S)
        try:
            members = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        found = []
        for member in members:
            try:
                found.append((role(member), member.memory_info().rss, member.num_fds()))
            except psutil.Error:  # it has ended meanwhile
                continue
        yield found


def role(process: psutil.Process) -> str:
    command = process.cmdline()
    if "wsi_hf.mapping.child" in command:
        return "mapping process"
    if "torch.distributed.run" in command:
        return "launcher"
    if any(name in " ".join(command) for name in ("resource_tracker", "forkserver")):
        return "of multiprocessing"
    parent = process.parent()
    return "worker" if parent and parent.cmdline() == command else "main process"
