"""How soon a training learns: average precision of every checkpoint of finished runs on the cohort's test slides.

    python benchmarks/ablation.py --grid pretraining --seeds 0 1 --save_steps 75 --save_total_limit 10
    python benchmarks/learning_curves.py --runs runs/ablation/demo/*seed0 runs/ablation/demo/*seed1 \\
        --cohorts cohorts/synthetic-0 cohorts/synthetic-0 cohorts/synthetic-1 cohorts/synthetic-1

Each run is judged on the cohort at the same place in the list; folders whose names differ only in "-seedN" are one row.
What is judged already is not judged again.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.inference.loading import load_model
from wsi_hf.reports.cohort import evaluate_cohort

Curve = dict[int, float]  # average precision of each step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--cohorts", type=Path, nargs="+", required=True)
    parser.add_argument("--reach", type=float, default=0.5, help="average precision whose step is told")
    parser.add_argument("--picture", type=Path, help="PNG: a line a run, a colour a row")
    arguments = parser.parse_args()

    rows: dict[str, list[Curve]] = defaultdict(list)
    for run, cohort in zip(arguments.runs, tqdm(arguments.cohorts, unit="run"), strict=True):
        rows[re.sub(r"-seed\d+$", "", run.name).replace("_", " ")].append(curve_of(run, cohort))
    steps = sorted({step for curves in rows.values() for curve in curves for step in curve})
    print(f"| AP after step | {' | '.join(map(str, steps))} | steps to {arguments.reach:g} |")
    print("|" + "---|" * (len(steps) + 2))
    for name, curves in rows.items():
        cells = [shown([curve[step] for curve in curves if step in curve], "{:.2f}") for step in steps]
        print(f"| {name} | {' | '.join(cells)} | {shown([reached(c, arguments.reach) for c in curves], '{:.0f}')} |")
    if arguments.picture:
        draw(rows, arguments.picture)


def curve_of(run: Path, cohort: Path) -> Curve:
    test = load_cohort(cohort).filter(lambda row: row["split"] == "test")
    curve = {}
    for checkpoint in tqdm(sorted(run.glob("checkpoint-*"), key=step_of), leave=False, unit="checkpoint"):
        metrics = checkpoint / "evaluation" / "metrics.json"
        if not metrics.exists():
            model, image_processor = load_model(checkpoint)
            evaluate_cohort(model, test, metrics.parent, image_processor, progress=False)
        curve[step_of(checkpoint)] = json.loads(metrics.read_text())["pixel_average_precision"]["value"]
    return curve


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def reached(curve: Curve, goal: float) -> float:
    """The step at which the straight line between two checkpoints crosses the goal first; NaN if none does."""
    before_step, before = 0, 0.0
    for step, value in sorted(curve.items()):
        if value >= goal:
            return before_step + (step - before_step) * (goal - before) / (value - before)
        before_step, before = step, value
    return float("nan")


def shown(values: list[float], form: str) -> str:
    each = " ".join("never" if np.isnan(value) else form.format(value) for value in values)
    return each if len(values) == 1 or np.isnan(values).any() else f"**{form.format(np.mean(values))}** ({each})"


def draw(rows: dict[str, list[Curve]], path: Path) -> None:
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for colour, (name, curves) in enumerate(rows.items()):
        for index, curve in enumerate(curves):
            axes.plot(
                *zip(*sorted(curve.items()), strict=True), "o-", color=f"C{colour}", label=None if index else name
            )
    axes.set(ylim=(0, 1), xlabel="step", ylabel="pixel average precision, held-out slides")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
