"""What each half of the method is worth: {KL, beta-divergence} x {uniform, dynamic}; and its hyper-parameters.

    python benchmarks/ablation.py                                    # the paper's claim, 3 seeds, synthetic slides
    python benchmarks/ablation.py --grid alpha --seeds 0 1 2
    python benchmarks/ablation.py --grid low_burden --burden 0.0025 0.04
    python benchmarks/ablation.py --cohort MOSAIC --recipe mosaic    # on your own slides
    python benchmarks/ablation.py --cohort MOSAIC --recipe mosaic-smooth --after mosaic
    python benchmarks/ablation.py --grid single --cohort MOSAIC --recipe mosaic-quick

Every cell is one run of examples/train_camelyon16.py: what is measured is what a user runs. Without --cohort each seed
trains on a synthetic cohort of its own. Runs that are finished are not run again. Other arguments are passed on.
--picture draws the table.
"""

import argparse
import json
import subprocess
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from wsi_hf import synthesize_cohort
from wsi_hf.job.recipes import RECIPES

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "train_camelyon16.py"
SCRIPTS = {  # instead of the example
    "ORACLE": HERE / "oracle_placement.py",
    "SUPERVISED": HERE / "fully_supervised.py",
    "--encoder": HERE / "attention_mil.py",
}
METHOD = "dynamic + beta (the method)"
UNIFORM, KL = ["--dynamic_sampling", "False"], ["--beta_1", "0", "--beta_1_warmup_steps", "0"]
CHANGES: dict[str, dict[str, list[str]]] = {  # one setting of "demo" or "mosaic-quick" at a time
    "uniform": {"uniform patches": UNIFORM},
    "beta_1": {f"beta_1 = {b}": ["--beta_1", str(b)] for b in (0, 0.61, 0.9)},
    "warmup": {
        "beta_1 = 1 from the start": ["--beta_1_warmup_start", "0", "--beta_1_warmup_steps", "0"],
        "beta_1 rises from step 0": ["--beta_1_warmup_start", "0", "--beta_1_warmup_steps", "225"],
    },
    "alpha": {f"alpha = {a}": ["--alpha", str(a)] for a in (0, 1, 2, 4)},
    "eta": {f"eta = {e}": ["--eta", str(e)] for e in (5, 10, 20, 100)},
    "error_mass": {"benign slides all alike": ["--error_mass", "False"]},
    "map_age": {  # as many slides mapped in all
        f"a round of {n} steps": ["--steps_per_round", str(n), "--slides_per_round", str(16 * n // 25)]
        for n in (100, 400)
    },
    "draw_from": {"patches from fresh maps alone": ["--draw_from", "fresh"]},
    "pretraining": {"from an auto-encoder": ["--pretrain_steps", "300"]},
    "glass": {"nothing is known of glass": ["--glass_weight", "0", "--glass_share", "0"]},
    "recipe": {  # candidates for the demo, to be chosen by their worst seed
        "first patches uniform": ["--discovery_steps", "0"],
        "an auto-encoder instead": ["--discovery_steps", "0", "--pretrain_steps", "150"],
        "an auto-encoder too": ["--pretrain_steps", "150"],
        "beta_1 rises from step 0 to 400": ["--beta_1_warmup_start", "0", "--beta_1_warmup_steps", "400"],
    },
    "smoothing": {f"logits averaged over {r} px to each side": ["--smoothing", str(r)] for r in (8, 32)},
    "patches": {
        f"{n} patches of {side} px, depth {depth}": [
            *("--per_device_train_batch_size", str(n), "--patch_size", str(side), "--depth", str(depth)),
            *("--shuffle_buffer", str(2 * n)),
        ]
        for n, side, depth in ((32, 64, 3), (32, 64, 2), (128, 32, 3))
    },
}
SINGLE = ("uniform", "beta_1", "warmup", "alpha", "eta", "error_mass", "map_age", "pretraining")
GRIDS: dict[str, dict[str, list[str]]] = {
    "claim": {
        "uniform + KL": [*UNIFORM, *KL],
        "dynamic + KL": KL,
        "uniform + beta": UNIFORM,
        METHOD: [],
    },
    "method": {METHOD: []},
    **{name: {METHOD: []} | cells for name, cells in CHANGES.items()},
    "single": {METHOD: []} | {name: cell for grid in SINGLE for name, cell in CHANGES[grid].items()},
    "low_burden": {"patches placed by an oracle": ["ORACLE"], METHOD: []},
    "supervision": {
        "uniform + KL": [*UNIFORM, *KL],
        METHOD: [],
        "patches placed by an oracle": ["ORACLE"],
        "attention MIL on tiles, the method's encoder": ["--encoder", METHOD],
        "fully supervised on outlines": ["SUPERVISED"],
    },
}
FIGURES = ("pixel_average_precision", "dice", "slide_auc", "froc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--grid", choices=GRIDS, default="claim")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--after", help="recipe whose run of the same cell each cell starts from")
    parser.add_argument("--cohort", help="folder or table of slides; default: a synthetic cohort for each seed")
    parser.add_argument("--burden", type=float, nargs=2, help="tumour's share of the tissue of synthetic slides")
    parser.add_argument("--picture", type=Path, help="PNG of the average precisions")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; give each its cores with --cpu_threads")
    arguments, passed_on = parser.parse_known_args()

    grid = GRIDS[arguments.grid]
    cohorts = {seed: arguments.cohort or synthetic(seed, arguments.burden) for seed in arguments.seeds}
    cells = [(seed, name) for seed in arguments.seeds for name in grid]
    for seed, name in cells:
        claim(folder_of(seed, name, arguments), [*grid[name], *passed_on], arguments)
    with ThreadPool(arguments.jobs) as pool:
        runs = pool.imap(lambda cell: run(*cell, cohorts[cell[0]], arguments, [*grid[cell[1]], *passed_on]), cells)
        results = dict(zip(cells, tqdm(runs, total=len(cells), unit="run"), strict=True))
    rows = {name: [results[seed, name] for seed in arguments.seeds] for name in grid}
    print_table(rows, arguments.seeds)
    if arguments.picture:
        draw(rows, arguments.picture)


def synthetic(seed: int, burden: tuple[float, float] | None) -> Path:
    if burden is None:
        return synthesize_cohort(Path("cohorts") / f"synthetic-{seed}", seed=seed)
    folder = Path("cohorts") / f"synthetic-{burden[0]:g}-{burden[1]:g}-{seed}"
    return synthesize_cohort(folder, seed=seed, burden=tuple(burden))


def run(seed: int, name: str, cohort: str | Path, arguments: argparse.Namespace, extra: list[str]) -> dict[str, float]:
    """Train and evaluate one cell; give its figures."""
    out = folder_of(seed, name, arguments)
    if not (out / "metrics.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        if arguments.after:
            before = argparse.Namespace(**vars(arguments) | {"recipe": arguments.after, "after": None})
            run(seed, name, cohort, before, extra)
            extra = [*extra, "--init_from", str(folder_of(seed, name, before))]
        script = next((SCRIPTS[argument] for argument in extra if argument in SCRIPTS), EXAMPLE)
        common = ["--seed", str(seed), "--cohort", str(cohort)]
        command = [sys.executable, str(script), "--output_dir", str(out), "--recipe", arguments.recipe, *common]
        with open(out / "log.txt", "w") as log:
            extra = [str(folder_of(seed, METHOD, arguments)) if argument == METHOD else argument for argument in extra]
            command += [argument for argument in extra if argument not in ("ORACLE", "SUPERVISED")]
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    metrics = json.loads((out / "metrics.json").read_text())
    return {figure: metrics[figure]["value"] for figure in FIGURES}


def claim(folder: Path, extra: list[str], arguments: argparse.Namespace) -> None:
    """Write down what a cell is run with; end where it holds a run of something else."""
    recipes = {recipe: RECIPES[recipe] for recipe in (arguments.after, arguments.recipe) if recipe}
    facts, said = folder / "arguments.json", json.dumps({"arguments": extra, "cohort": arguments.cohort} | recipes)
    known = "unknown arguments" if (folder / "metrics.json").exists() else said
    if facts.exists():
        known = facts.read_text()
    if known != said:
        sys.exit(f"{folder} holds a run with {known}, not {said}: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    facts.write_text(said)


def folder_of(seed: int, name: str, arguments: argparse.Namespace) -> Path:
    burden = "" if arguments.burden is None else f"-{arguments.burden[0]:g}-{arguments.burden[1]:g}"
    return arguments.out / arguments.recipe / f"{name.replace(' ', '_')}{burden}-seed{seed}"


def print_table(figures: dict[str, list[dict[str, float]]], seeds: list[int]) -> None:
    print(f"\nHeld-out slides, seeds {', '.join(map(str, seeds))}: mean, its standard error, each seed.")
    print("AP: pixel average precision.\n")
    print("| | AP | over the first row | Dice | slide AUC | FROC |\n|---|---|---|---|---|---|")
    first = np.mean([row["pixel_average_precision"] for row in next(iter(figures.values()))])
    for name, rows in figures.items():
        columns = {figure: [row[figure] for row in rows] for figure in FIGURES}
        ratio = np.mean(columns["pixel_average_precision"]) / first
        cells = [shown(values) for values in columns.values()]
        print(f"| {name} | {cells[0]} | {ratio:.2f} | {' | '.join(cells[1:])} |")


def shown(values: list[float]) -> str:
    error = f" +- {np.std(values, ddof=1) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"**{np.mean(values):.2f}**{error} ({' '.join(f'{v:.2f}' for v in values)})"


def draw(rows: dict[str, list[dict[str, float]]], path: Path) -> None:
    """A line a cell: the seeds' average precisions as dots, their mean as a bar."""
    figure = Figure(figsize=(7, 0.8 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, found in enumerate(rows.values()):
        values = [row["pixel_average_precision"] for row in found]
        axes.barh(y, np.mean(values), height=0.6, color="#c9d7e8")
        axes.plot(values, [y] * len(values), "o", color="#1f4e79", markersize=5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="pixel average precision on held-out slides; dots are seeds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
