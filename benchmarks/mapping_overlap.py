"""Training steps a second with the mapper off, inline, and as a child on a core of its own.

    python benchmarks/mapping_overlap.py [--steps 200] [--steps_per_round 25] [--slides_per_round 10]

The training is pinned to one core, the child to another; one torch thread each. The clock is what counts where the two
cores are free; steps a second of the CPU time that the training itself used say the same on a busy machine, but for
waiting. The rounds before the child maps are left out. --slides_per_round 0 lets the mapping balance itself.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from pathlib import Path

import torch
from transformers import TrainerCallback

from wsi_hf import WsiTrainer, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.cohorts.synthetic import synthesize_cohort

WARM_ROUNDS = 3


class Clock(TrainerCallback):
    """Times the steps after the first rounds; pins the child, as soon as it lives, to the last core."""

    def __init__(self, trainer: WsiTrainer, core: int):
        self.trainer, self.core = trainer, core

    def on_step_end(self, args, state, control, **kwargs):
        child = self.trainer.run.mapping.child
        if state.global_step == 1 and child and child.process:
            os.sched_setaffinity(child.process.pid, {self.core})
        if state.global_step == WARM_ROUNDS * args.steps_per_round:
            self.begun = time.perf_counter(), time.process_time()

    def on_train_end(self, args, state, control, **kwargs):
        steps = state.global_step - WARM_ROUNDS * args.steps_per_round
        wall, cpu = time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]
        self.rates = steps / wall, steps / cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--steps_per_round", type=int, default=25)
    parser.add_argument("--slides_per_round", type=int, default=10)
    parser.add_argument("--turns", type=int, default=2)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    rates: dict[str, list[tuple[float, float]]] = {"off": [], "inline": [], "child": []}
    with tempfile.TemporaryDirectory() as folder:
        cohort = synthesize_cohort(Path(folder) / "cohort", n_train=64, n_test=0, size_um=512, seed=0)
        slides = load_cohort(cohort)
        for turn in range(args.turns):
            for mapping in rates:
                out = Path(folder) / f"{mapping}-{turn}"
                rates[mapping].append(train(out, slides, mapping, args, cores[-1]))
    a_round = args.slides_per_round or "balanced"
    print(f"\n{args.steps} steps in rounds of {args.steps_per_round}, slides a round: {a_round}\n")
    print("| mapper | steps a second of the clock | of off | of the training's CPU | of off |\n|---|---|---|---|---|")
    best = {mapping: [max(values) for values in zip(*found, strict=True)] for mapping, found in rates.items()}
    for mapping, (wall, cpu) in best.items():
        print(f"| {mapping} | {wall:.2f} | {wall / best['off'][0]:.2f} | {cpu:.2f} | {cpu / best['off'][1]:.2f} |")


def train(out: Path, slides, mapping: str, args: argparse.Namespace, core: int) -> tuple[float, float]:
    torch.manual_seed(0)
    training = WsiTrainingArguments(
        output_dir=str(out), use_cpu=True, cpu_threads=1, per_device_train_batch_size=16, max_steps=args.steps,
        patch_size=64, steps_per_round=args.steps_per_round, slides_per_round=args.slides_per_round, shuffle_buffer=32,
        mapping="child" if mapping == "off" else mapping, dynamic_sampling=mapping != "off",
        logging_steps=args.steps_per_round, save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = WsiTrainer(WsiUNetForSegmentation(WsiUNetConfig(filters=8, depth=3)), training, slides)
    clock = Clock(trainer, core)
    trainer.add_callback(clock)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    log = [entry for entry in trainer.state.log_history if "map_wait_s" in entry][WARM_ROUNDS:]
    took = (args.steps - WARM_ROUNDS * args.steps_per_round) / clock.rates[0]
    waited, idle = (sum(entry.get(name, 0) for entry in log) / took for name in ("map_wait_s", "mapper_wait_s"))
    print(
        f"{mapping}: {clock.rates[0]:.2f} steps/s; waited for maps {waited:.1%} of the time, the mapper for weights "
        f"{idle:.1%}, slides/min "
        f"{log[-1].get('slides_per_min', 0):.0f}, map age {log[-1].get('map_age', 0):.0f} steps",
        flush=True,
    )
    return clock.rates


if __name__ == "__main__":
    main()
