"""Resident memory of every process of a training, over many steps: none may grow.

    python benchmarks/training_memory.py [--steps 2000] [--workers 2] [--ranks 1]

A tiny network on small synthetic slides, mapped by a child in rounds of ten steps, saved, evaluated and drawn from data
workers. The table gives, for each role, the largest resident set among its processes in each tenth of the steps (MB).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from process_watch import samples

ROUND = 10


def train(run: Path, cohort: Path, steps: int, workers: int) -> None:
    """What each rank does; the first one writes the step that it has reached."""
    from transformers import TrainerCallback

    from wsi_hf import WsiTrainer, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation, load_cohort

    class Progress(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if args.process_index == 0:
                (run / "step").write_text(str(state.global_step))

    slides = load_cohort(cohort).filter(lambda row: row["split"] == "train")
    args = WsiTrainingArguments(
        output_dir=str(run), max_steps=steps, per_device_train_batch_size=4, patch_size=32, steps_per_round=ROUND,
        slides_per_round=4, shuffle_buffer=16, mapping_tile_size=128, save_steps=100, save_total_limit=1,
        eval_strategy="steps", eval_steps=100, logging_steps=ROUND, cpu_threads=1, use_cpu=True, report_to="none",
        disable_tqdm=True, dataloader_num_workers=workers, overwrite_output_dir=True,
        ddp_backend="gloo" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
    )  # fmt: skip
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2))
    WsiTrainer(model, args, slides, slides.select([0, 5]), callbacks=[Progress()]).train()


def watch(process: subprocess.Popen, run: Path, steps: int) -> dict[str, dict[int, float]]:
    """{role: {tenth of the steps: largest resident set in bytes}}"""
    largest: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for members in samples(process):
        written = (run / "step").read_text() if (run / "step").exists() else ""
        tenth = min(int(written or 0) * 10 // steps, 9)
        for role, resident, _ in members:
            largest[role][tenth] = max(largest[role][tenth], resident)
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        return train(Path(args.train[0]), Path(args.train[1]), args.steps, args.workers)
    from wsi_hf import synthesize_cohort

    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    run = folder / "run"
    run.mkdir()
    cohort = synthesize_cohort(folder / "cohort", n_train=8, n_test=2, size_um=384, seed=3)
    job = [__file__, "--train", str(run), str(cohort), "--steps", str(args.steps), "--workers", str(args.workers)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={args.ranks}"]
    command = [sys.executable, *(torchrun if args.ranks > 1 else []), *job]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)
        largest = watch(process, run, args.steps)
    if process.returncode:
        sys.exit((folder / "log").read_text()[-4000:])
    print("| process | " + " | ".join(f"to step {(tenth + 1) * args.steps // 10}" for tenth in range(10)) + " |")
    print("|---" * 11 + "|")
    for name, of_role in sorted(largest.items()):
        print(f"| {name} | " + " | ".join(f"{of_role.get(tenth, 0) / 1e6:.0f}" for tenth in range(10)) + " |")
    return None


if __name__ == "__main__":
    main()
