"""`wsi-hf segment`: maps, lesions, overlays and summaries of slides."""

import json
from pathlib import Path
from typing import Any

import click

from wsi_hf.cli.network import load_pipeline, network_options
from wsi_hf.cli.progress import progress_wanted
from wsi_hf.cli.slides import expanded, slides_argument


@click.command(short_help="segment slides: maps, lesions, overlays, summaries")
@slides_argument
@click.option("--model", required=True, help="a folder or a name on the Hub")
@click.option("--out", required=True, type=Path, help="folder for the results; finished slides are kept")
@click.option("--threshold", default=0.5, help="probability of a lesion's pixel")
@click.option("--tissue", type=click.Path(exists=True), help="a mask, or a folder of masks called after the slides")
@click.option("--whole-slide", is_flag=True, help="not only where there is tissue")
@click.option("--batch-size", default=1, help="tiles a forward pass")
@click.option("--num-workers", default=2, help="threads that read")
@click.option("--json", "as_json", is_flag=True, help="print each slide's result as a line of JSON")
@network_options
def segment(
    slides: tuple[Path, ...],
    model: str,
    out: Path,
    threshold: float,
    tissue: str | None,
    whole_slide: bool,
    batch_size: int,
    num_workers: int,
    as_json: bool,
    mpp: float | None,
    override_mpp: float | None,
    tile_size: int | None,
    **network: Any,
) -> int:
    """Segment slides, and those of folders, into a folder; one line a slide, as it is done, and slides.csv of all."""
    paths, failed = expanded(slides), False
    from tqdm.auto import tqdm

    from wsi_hf.segmentation.runs import TABLE

    results: Any = load_pipeline(model, **network)(
        iter(tqdm(paths, "slides", unit="slide", disable=not progress_wanted())),
        mpp=mpp,
        override_mpp=override_mpp,
        out=out,
        on_error="report",
        tissue=None if whole_slide else tissue or "auto",
        threshold=threshold,
        tile_size=tile_size,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress_wanted(),
    )
    for result in results:
        failed |= "error" in result or bool(result["not_analysed"])
        tqdm.write(_json_line(result) if as_json else _line(result))
    if not as_json:
        print(f"{out / TABLE}\t{len(paths)} slides")
    return int(failed)


def _json_line(result: dict[str, Any]) -> str:
    """All that is known of a slide but its map."""
    return json.dumps({name: value for name, value in result.items() if name != "probability_map"})


def _line(result: dict[str, Any]) -> str:
    """slide, label, probability, lesions, folder, and what to know before believing it."""
    if "error" in result:
        return f"{result['slide_id']}\tfailed"
    many = "lesion" if result["lesions"] == 1 else "lesions"
    spots = len(result["not_analysed"])
    return "\t".join(
        [
            result["slide_id"],
            result["label"],
            f"{result['score']:.4f}",
            f"{result['lesions']} {many}",
            result["folder"],
            *([f"{spots} spots not analysed"] if spots else []),
            *result["warnings"],
        ]
    )
