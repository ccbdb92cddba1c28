"""`wsi-hf segment`: maps, lesions, overlays and summaries of slides."""

import sys
from pathlib import Path
from typing import Any

import click

from wsi_hf.cli.network import load_pipeline, network_options
from wsi_hf.cli.slide_paths import expanded, slides_argument


@click.command(short_help="segment slides: maps, lesions, overlays, summaries")
@slides_argument
@click.option("--model", required=True, help="a folder or a name on the Hub")
@click.option("--out", required=True, type=Path, help="folder for the results; finished slides are kept")
@click.option("--threshold", default=0.5, help="probability of a lesion's pixel")
@click.option("--whole-slide", is_flag=True, help="not only where there is tissue")
@click.option("--batch-size", default=1, help="tiles a forward pass")
@click.option("--num-workers", default=2, help="threads that read")
@network_options
def segment(
    slides: tuple[Path, ...],
    model: str,
    out: Path,
    threshold: float,
    whole_slide: bool,
    batch_size: int,
    num_workers: int,
    mpp: float | None,
    tile_size: int | None,
    **network: Any,
) -> int:
    """Segment slides, and those of folders, into a folder; one line a slide."""
    results: Any = load_pipeline(model, **network)(
        expanded(slides),
        mpp=mpp,
        out=out,
        on_error="report",
        tissue=None if whole_slide else "auto",
        threshold=threshold,
        tile_size=tile_size,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=sys.stderr.isatty(),
    )
    for result in results:
        if "error" in result:
            print(f"{result['slide_id']}\tfailed")
        else:
            spots = f"\t{len(result['not_analysed'])} spots not analysed" if result["not_analysed"] else ""
            print(f"{result['slide_id']}\t{result['label']}\t{result['score']:.4f}\t{result['folder']}{spots}")
    return int(any("error" in result or result["not_analysed"] for result in results))
