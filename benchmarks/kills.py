"""Kills, signals and stops in a row: every run must come back to the weights of one that was never disturbed.

    python benchmarks/kills.py --count 50 [--seed 0]

Each draws where the maps are made, data workers and how they start, ranks, what is sent to whom and when; the run is
resumed until it ends. One table line each: its weights, and what was left of it (orphans, half-written files).
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

STEPS = 14
HOW = {
    "SIGKILL to a member": (signal.SIGKILL, "member"),
    "SIGTERM to the group": (signal.SIGTERM, "group"),
    "SIGINT to the group": (signal.SIGINT, "group"),
    "SIGTERM to the launcher": (signal.SIGTERM, "launcher"),
    "SIGTERM to a member": (signal.SIGTERM, "member"),
}
Setting = tuple[str, int, str, int]  # mapping, workers, how they start, training ranks


def train(run: Path, cohort: Path, mapping: str, workers: int, method: str) -> None:
    """What each process of a run does."""
    from wsi_hf import WsiTrainer, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation, load_cohort

    slides = load_cohort(cohort).filter(lambda row: row["split"] == "train")
    complete = any(run.glob("checkpoint-*/manifest.json"))
    args = WsiTrainingArguments(
        output_dir=str(run), max_steps=STEPS, per_device_train_batch_size=4 // int(os.environ.get("TRAINING_RANKS", 1)),
        patch_size=32, steps_per_round=2, slides_per_round=4, shuffle_buffer=3, mapping=mapping, mapping_tile_size=128,
        save_steps=3, save_total_limit=2, eval_strategy="steps", eval_steps=5, logging_steps=2, cpu_threads=1,
        use_cpu=True, report_to="none", disable_tqdm=True, seed=0, dataloader_num_workers=workers,
        dataloader_multiprocessing_context=method if workers else None, overwrite_output_dir=True,
        ddp_backend="gloo" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer = WsiTrainer(WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2)), args, slides, slides.select([0, 5]))
    trainer.train(resume_from_checkpoint=True if complete else None)
    if args.process_index == 0:
        state = sorted(trainer.model.state_dict().items())
        digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for _, tensor in state))
        (run / "weights.txt").write_text(digest.hexdigest()[:12])


def launch(run: Path, cohort: Path, setting: Setting) -> subprocess.Popen:
    mapping, workers, method, ranks = setting
    job = [__file__, "--train", str(run), str(cohort), mapping, str(workers), method]
    processes = ranks + (mapping == "ranks")
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), *job]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRAINING_RANKS": str(ranks)}
    with open(run.with_suffix(".log"), "a") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def members(run: Path) -> list[int]:
    """Live processes of a run, launcher and mappers among them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if entry.name.isdigit() and str(run).encode() in (entry / "cmdline").read_bytes() and state != "Z":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def disturb(run: Path, process: subprocess.Popen, how: str, rng: random.Random) -> None:
    number, whom = HOW[how]
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        there = members(run)
        os.kill(process.pid if whom == "launcher" or not there else rng.choice(there), number)


def undisturbed(folder: Path, cohort: Path, setting: Setting) -> tuple[str, float]:
    """The weights of a run in peace, and how long it takes."""
    run, begun = folder / f"whole-{setting[3]}", time.monotonic()
    if not (run / "weights.txt").exists():
        run.mkdir()
        launch(run, cohort, ("inline", 0, "fork", setting[3])).wait(timeout=1200)
    return (run / "weights.txt").read_text(), time.monotonic() - begun


def one(folder: Path, cohort: Path, number: int, rng: random.Random, spans: dict[int, float]) -> str:
    """One disturbed run, as a line of the table."""
    mapping = rng.choice(["inline", "child", "ranks"])
    setting = (mapping, rng.choice([0, 2]), rng.choice(["fork", "forkserver"]), rng.choice([1, 2]))
    whole, span = undisturbed(folder, cohort, setting)
    spans.setdefault(setting[3], span)
    how, run = rng.choice(list(HOW)), folder / f"run-{number}"
    run.mkdir()
    process, after = launch(run, cohort, setting), rng.uniform(0.1, 1.0) * spans[setting[3]]
    time.sleep(after)
    if process.poll() is None:
        disturb(run, process, how, rng)
    answered = time.monotonic()
    try:
        process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    answered = time.monotonic() - answered
    time.sleep(6)  # what a launcher leaves behind has so long to notice
    orphans = members(run)
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    steps = [int(path.parent.name.split("-")[1]) for path in run.glob("checkpoint-*/manifest.json")]
    if not (run / "weights.txt").exists():
        launch(run, cohort, setting).wait(timeout=1200)
    weights = (run / "weights.txt").read_text() if (run / "weights.txt").exists() else "none"
    left = [path.name for path in run.rglob("*.part")]
    verdict = "same" if weights == whole else f"OTHER ({weights})"
    mapping, workers, method, ranks = setting
    return (
        f"| {mapping} | {workers} {method if workers else ''} | {ranks} | {how} | {after:.0f} s | {answered:.0f} s | "
        f"{max(steps, default=0)} | {verdict} | {len(orphans)} | {len(left)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        run, cohort, mapping, workers, method = args.train
        return train(Path(run), Path(cohort), mapping, int(workers), method)
    from wsi_hf import synthesize_cohort

    folder, rng, spans = Path(tempfile.mkdtemp(prefix="kills-")), random.Random(args.seed), dict[int, float]()
    cohort = synthesize_cohort(folder / "cohort", n_train=8, n_test=2, size_um=384, seed=3)
    print("| maps | workers | ranks | what | after | gone in | checkpoint | weights | orphans | left |", flush=True)
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for number in range(args.count):
        print(one(folder, cohort, number, rng, spans), flush=True)
    return None


if __name__ == "__main__":
    main()
