"""`wsi-hf figures`: the paper's figures."""

from pathlib import Path

import click


@click.command(short_help="draw the paper's figures")
@click.option("--out", required=True, type=Path, help="folder for the pictures")
@click.option("--run", "evaluated", type=Path, help="evaluated folder, for Figures 3 and 4")
def figures(out: Path, evaluated: Path | None) -> int:
    """Draw Figure 1, and Figures 3 and 4 from an evaluated folder."""
    from wsi_hf.reports.paper_figures import plot_paper_figures

    for path in plot_paper_figures(out, evaluated):
        print(path)
    return 0
