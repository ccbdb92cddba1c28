"""How average precision depends on the share of tumour: each malignant test slide of finished runs by itself.

    python benchmarks/burden.py --runs runs/a runs/b --cohorts cohorts/a cohorts/b --picture docs/burden.png

Each run is compared with the outlines of the cohort at the same place in the list. A slide's burden is its tumour's
share of its tissue.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.slides.annotations import read_asap
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue import find_tissue

TISSUE_MPP = 8.0
EDGES = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--cohorts", type=Path, nargs="+", required=True)
    parser.add_argument("--edges", type=float, nargs="+", default=EDGES, help="percent")
    parser.add_argument("--picture", type=Path, help="PNG: a dot a slide, medians as a line")
    arguments = parser.parse_args()

    slides = []  # (burden in percent, average precision)
    for run, cohort in zip(arguments.runs, tqdm(arguments.cohorts, unit="run"), strict=True):
        slides += slides_of(run, cohort)
    bins = defaultdict(list)
    for burden, precision in slides:
        bins[int(np.digitize(burden, arguments.edges))].append(precision)
    print("| tumour, % of the tissue | slides | median AP | quartiles |\n|---|---|---|---|")
    for place in sorted(bins):
        low, median, high = np.percentile(bins[place], (25, 50, 75))
        print(f"| {named(arguments.edges, place)} | {len(bins[place])} | {median:.2f} | {low:.2f}-{high:.2f} |")
    if arguments.picture:
        draw(np.array(slides), arguments.edges, bins, arguments.picture)


def slides_of(run: Path, cohort: Path) -> list[tuple[float, float]]:
    """Burden and average precision of the malignant test slides."""
    outlines = {row["slide_id"]: row for row in load_cohort(cohort) if row["split"] == "test" and row["annotation"]}
    with open(run / "slides.csv", newline="") as file:
        judged = [row for row in csv.DictReader(file) if row["label"] == "malignant"]
    return [(burden(outlines[row["slide_id"]]), float(row["average_precision"])) for row in judged]


def burden(row: dict) -> float:
    slide = Slide(row["path"], mpp=row["mpp"])
    tumour_um2 = read_asap(row["annotation"]).area * slide.mpp**2
    return 100 * tumour_um2 / (find_tissue(slide, TISSUE_MPP).sum() * TISSUE_MPP**2)


def named(edges: list[float], place: int) -> str:
    if place == 0:
        return f"under {edges[0]:g}"
    return f"over {edges[-1]:g}" if place == len(edges) else f"{edges[place - 1]:g}-{edges[place]:g}"


def draw(slides: np.ndarray, edges: list[float], bins: dict[int, list[float]], path: Path) -> None:
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*slides.T, ".", color="#9bb4d0", markersize=5)
    middle = [place for place in sorted(bins) if 0 < place < len(edges)]
    centres = [np.sqrt(edges[place - 1] * edges[place]) for place in middle]
    axes.plot(centres, [np.median(bins[place]) for place in middle], "o-", color="#1f4e79", markersize=6)
    axes.set(xscale="log", ylim=(0, 1), xlabel="tumour, % of a slide's tissue", ylabel="average precision of a slide")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
