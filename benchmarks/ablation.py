"""What each half of the method is worth: {KL, beta-divergence} x {uniform, dynamic}; and its hyper-parameters.

    python benchmarks/ablation.py                                    # the paper's claim, 3 seeds, synthetic slides
    python benchmarks/ablation.py --grid alpha --seeds 0 1 2
    python benchmarks/ablation.py --cohort MOSAIC --recipe mosaic    # on your own slides

Every cell is one run of examples/train_camelyon16.py: what is measured is what a user runs. Without --cohort each seed
trains on a synthetic cohort of its own. Runs that are finished are not run again. Other arguments are passed on.
"""

import argparse
import json
import subprocess
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wsi_hf import synthesize_cohort

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "train_camelyon16.py"
UNIFORM, KL = ["--dynamic_sampling", "False"], ["--beta_1", "0", "--beta_1_warmup_steps", "0"]
GRIDS: dict[str, dict[str, list[str]]] = {
    "claim": {
        "uniform + KL": [*UNIFORM, *KL],
        "dynamic + KL": KL,
        "uniform + beta": UNIFORM,
        "dynamic + beta (the method)": [],
    },
    "beta_1": {f"beta_1 = {b}": ["--beta_1", str(b)] for b in (0, 0.61, 0.9, 1)},
    "alpha": {f"alpha = {a}": ["--alpha", str(a)] for a in (0, 1, 2, 4, 8)},
    "eta": {f"eta = {e}": ["--eta", str(e)] for e in (5, 10, 20, 50, 100)},
    "draw_from": {f"patches from {d} maps": ["--draw_from", d] for d in ("fresh", "all")},
}
FIGURES = ("pixel_average_precision", "dice", "slide_auc", "froc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--grid", choices=GRIDS, default="claim")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--cohort", help="folder or table of slides; default: a synthetic cohort for each seed")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; give each its cores with --cpu_threads")
    arguments, passed_on = parser.parse_known_args()

    grid = GRIDS[arguments.grid]
    cohorts = {seed: arguments.cohort or synthetic(seed) for seed in arguments.seeds}
    cells = [(seed, name) for seed in arguments.seeds for name in grid]
    with ThreadPool(arguments.jobs) as pool:
        runs = pool.imap(lambda cell: run(*cell, cohorts[cell[0]], arguments, [*grid[cell[1]], *passed_on]), cells)
        results = dict(zip(cells, tqdm(runs, total=len(cells), unit="run"), strict=True))
    print_table({name: [results[seed, name] for seed in arguments.seeds] for name in grid}, arguments.seeds)


def synthetic(seed: int) -> Path:
    return synthesize_cohort(Path("cohorts") / f"synthetic-{seed}", seed=seed)


def run(seed: int, name: str, cohort: str | Path, arguments: argparse.Namespace, extra: list[str]) -> dict[str, float]:
    """Train and evaluate one cell; give its figures."""
    out = arguments.out / arguments.recipe / f"{name.replace(' ', '_')}-seed{seed}"
    if not (out / "metrics.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(EXAMPLE), "--output_dir", str(out), "--recipe", arguments.recipe]
        command += ["--seed", str(seed), "--cohort", str(cohort)]
        with open(out / "log.txt", "w") as log:
            subprocess.run([*command, *extra], check=True, stdout=log, stderr=subprocess.STDOUT)
    metrics = json.loads((out / "metrics.json").read_text())
    return {figure: metrics[figure]["value"] for figure in FIGURES}


def print_table(figures: dict[str, list[dict[str, float]]], seeds: list[int]) -> None:
    print(f"\nHeld-out slides, seeds {', '.join(map(str, seeds))}, their mean first. AP: pixel average precision.\n")
    print("| | AP | over the first row | Dice | slide AUC | FROC |\n|---|---|---|---|---|---|")
    first = np.mean([row["pixel_average_precision"] for row in next(iter(figures.values()))])
    for name, rows in figures.items():
        columns = {figure: [row[figure] for row in rows] for figure in FIGURES}
        ratio = np.mean(columns["pixel_average_precision"]) / first
        cells = [f"**{np.mean(values):.2f}** ({' '.join(f'{v:.2f}' for v in values)})" for values in columns.values()]
        print(f"| {name} | {cells[0]} | {ratio:.1f} | {' | '.join(cells[1:])} |")


if __name__ == "__main__":
    main()
