"""Slides of true size end to end: time by part, peak memory and open files of every process, disk.

    python benchmarks/true_size.py GIGA [--out runs/true-size] [options of wsi-hf train]

GIGA is a cohort in CAMELYON16's layout. Trains three rounds of the recipe "paper", evaluates on the test slides, and
segments the first of them with all outputs. A round is two steps and two slides, so that two cores need minutes.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import psutil
from process_watch import samples

ROUNDS, STEPS = 3, 2


def watched(command: list[str], log: Path) -> tuple[float, float, dict[str, tuple[int, int]]]:
    """Run a command; give its wall and CPU seconds, and by role the (largest resident bytes, most open files)."""
    before, began = psutil.Process().cpu_times(), time.monotonic()
    peaks: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    with open(log, "w") as file:
        process = subprocess.Popen([sys.executable, "-m", "wsi_hf.cli", *command], stdout=file, stderr=file)
        for members in samples(process):
            for role, resident, files in members:
                peaks[role] = (max(peaks[role][0], resident), max(peaks[role][1], files))
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}; see {log}")
    after = psutil.Process().cpu_times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - began, cpu, dict(peaks)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/true-size"))
    arguments, passed_on = parser.parse_known_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    model, judged, maps = (arguments.out / name for name in ("model", "judged", "maps"))
    training = [
        "train", "--cohort", str(arguments.cohort), "--output_dir", str(model), "--recipe", "paper",
        "--max_steps", str(ROUNDS * STEPS), "--steps_per_round", str(STEPS), "--slides_per_round", "2",
        "--shuffle_buffer", "32", "--dataloader_num_workers", "1", "--logging_steps", "1", "--validation_fraction", "0",
        *passed_on,
    ]  # fmt: skip
    slide = min((arguments.cohort / "images").glob("test_*"))
    parts = {
        "train, 3 rounds": (training, model),
        "evaluate, test slides": (
            ["evaluate", "--model", str(model), "--cohort", str(arguments.cohort), "--out", str(judged)], judged,
        ),
        f"segment {slide.name}": (["segment", str(slide), "--model", str(model), "--out", str(maps)], maps),
    }  # fmt: skip
    print("| part | wall, CPU (s) | process | peak memory (MB) | open files | left on disk (MB) |")
    print("|---|---|---|---|---|---|")
    for number, (part, (command, folder)) in enumerate(parts.items()):
        wall, cpu, peaks = watched(command, arguments.out / f"{number}.log")
        for index, (role, (resident, files)) in enumerate(sorted(peaks.items())):
            first = f"| {part} | {wall:.0f}, {cpu:.0f} " if index == 0 else "| | "
            last = f"{size_of(folder) / 1e6:.0f}" if index == 0 else ""
            print(f"{first}| {role} | {resident / 1e6:.0f} | {files} | {last} |", flush=True)


if __name__ == "__main__":
    main()
