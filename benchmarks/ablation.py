"""What each half of the method is worth: {cross-entropy, beta-divergence} x {uniform, dynamic}, and its hyper-parameters.

    python benchmarks/ablation.py                                    # the paper's claim, 3 seeds, synthetic slides
    python benchmarks/ablation.py --grid alpha --seeds 0 1 2
    python benchmarks/ablation.py --cohort MOSAIC --recipe mosaic    # on your own slides

Every cell is one run of examples/train_camelyon16.py, so that what is measured is what a user runs. Without --cohort each seed
trains on a synthetic cohort of its own. Runs that are finished are not run again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

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
    arguments, passed_on = parser.parse_known_args()

    grid = GRIDS[arguments.grid]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in grid}
    cells = [(seed, name) for seed in arguments.seeds for name in grid]  # a stopped table is even
    for seed, name in tqdm(cells, unit="run"):
        cohort = ["--cohort", arguments.cohort] if arguments.cohort else []
        figures[name].append(run(seed, name, arguments, [*cohort, *grid[name], *passed_on]))
    print_table(figures, arguments.seeds)


def run(seed: int, name: str, arguments: argparse.Namespace, extra: list[str]) -> dict[str, float]:
    """Train and evaluate one cell; give its figures."""
    out = arguments.out / arguments.recipe / f"{name.replace(' ', '_')}-seed{seed}"
    if not (out / "metrics.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            str(EXAMPLE),
            "--output_dir",
            str(out),
            "--recipe",
            arguments.recipe,
            "--seed",
            str(seed),
        ]
        with open(out / "log.txt", "w") as log:
            subprocess.run([*command, *extra], check=True, stdout=log, stderr=subprocess.STDOUT)
    metrics = json.loads((out / "metrics.json").read_text())
    return {figure: metrics[figure]["value"] for figure in FIGURES}


def print_table(figures: dict[str, list[dict[str, float]]], seeds: list[int]) -> None:
    print(
        f"\nHeld-out slides, seeds {', '.join(map(str, seeds))}; the mean stands in front. AP: pixel average precision.\n"
    )
    print("| | AP | over the first row | Dice | slide AUC | FROC |\n|---|---|---|---|---|---|")
    first = np.mean([row["pixel_average_precision"] for row in next(iter(figures.values()))])
    for name, rows in figures.items():
        columns = {figure: [row[figure] for row in rows] for figure in FIGURES}
        ratio = np.mean(columns["pixel_average_precision"]) / first
        cells = [f"**{np.mean(values):.2f}** ({' '.join(f'{v:.2f}' for v in values)})" for values in columns.values()]
        print(f"| {name} | {cells[0]} | {ratio:.1f} | {' | '.join(cells[1:])} |")


if __name__ == "__main__":
    main()
