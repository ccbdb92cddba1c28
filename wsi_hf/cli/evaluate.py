"""`wsi-hf evaluate`: check a cohort, or judge a model on it as the CAMELYON16 challenge does."""

import json
from pathlib import Path
from typing import Any

import click

from wsi_hf.cli.network import load_network, network_options
from wsi_hf.cli.progress import progress_wanted
from wsi_hf.cli.slides import slides_of_split


@click.command(short_help="judge a model on a cohort as the CAMELYON16 challenge does")
@click.option(
    "--cohort", required=True, type=Path, help="CAMELYON16 folder, CSV table of slides, or manifest on the Hub"
)
@click.option("--slides", type=Path, help="folder of the slides of a manifest on the Hub")
@click.option("--labels", type=Path, help="CSV table that goes before a CAMELYON16 folder's own labels: CAMELYON+")
@click.option("--check", is_flag=True, help="only say what is missing, broken or odd in the cohort")
@click.option("--model", help="a folder or a name on the Hub")
@click.option("--out", type=Path, help="folder for the results; a stopped run goes on from what is there")
@click.option("--tissue", type=click.Path(exists=True), help="a folder of masks called after the slides")
@click.option("--split", type=click.Choice(("train", "validation", "test")), help="(test, or the only one there is)")
@click.option("--convention", default="challenge", type=click.Choice(("challenge", "release")), help="of FROC")
@click.option("--detection-radius-um", default=187.0, help="no two are nearer")
@click.option("--include-itc", is_flag=True, help="count lesions under 275 um, unlike the challenge")
@click.option("--band-um", default=20.0, help="uncertainty of outlines")
@click.option(
    "--patch-um",
    default=995.0,
    type=click.FloatRange(0, min_open=True),
    help="side of the patches of patch_auc",
)
@click.option("--batch-size", default=1, help="tiles a forward pass")
@click.option("--num-workers", default=2, help="threads that read")
@click.option("--json", "as_json", is_flag=True, help="print JSON: all figures, or with --check a line a finding")
@network_options
def evaluate(
    cohort: Path,
    slides: Path | None,
    labels: Path | None,
    check: bool,
    model: str | None,
    out: Path | None,
    tissue: str | None,
    split: str | None,
    as_json: bool,
    mpp: float | None,
    override_mpp: float | None,
    device: str | None,
    dtype: str,
    threads: int | None,
    revision: str | None,
    **options: Any,
) -> int:
    """Check a cohort, or judge a model on it; several processes under `accelerate launch` share the slides."""
    if check:
        if labels is not None:
            raise ValueError("--check looks at the release itself; leave out --labels")
        return _check(cohort, mpp, as_json)
    if model is None or out is None:
        raise ValueError("evaluate needs --model and --out, or --check")
    from datetime import timedelta

    import torch
    from accelerate import PartialState

    from wsi_hf.cohorts.camelyon16 import load_cohort
    from wsi_hf.cohorts.manifest import Cohort
    from wsi_hf.evaluation.summary import summary_lines
    from wsi_hf.reports.cohort import evaluate_cohort

    # a process that is done waits for the others, however long their slides take
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=timedelta(days=7))
    rows = slides_of_split(load_cohort(cohort, slides, labels=labels), split, "test", cohort)
    if given := {name: value for name, value in (("mpp", override_mpp), ("tissue", tissue)) if value is not None}:
        rows = Cohort.of([{**row, **given} for row in rows], rows.features, rows.info.dataset_name, rows.info.license)
    network = load_network(model, device or str(state.device), dtype, threads, revision)
    metrics = evaluate_cohort(network, rows, out, mpp=mpp, state=state, **options)
    state.wait_for_everyone()
    state.destroy_process_group()  # its threads may abort a process that exits with them
    if not state.is_main_process:
        return 0
    if as_json:
        print(json.dumps(metrics))
    else:
        print("\n".join(summary_lines(metrics)))
        print(out / "report.html")
    return int(bool(metrics["cohort"]["failed"]))


def _check(cohort: Path, mpp: float | None, as_json: bool) -> int:
    from wsi_hf.cohorts.check import check_cohort

    bad = 0
    for finding in check_cohort(cohort, mpp, progress=progress_wanted()):
        print(json.dumps({"kind": finding.kind, "what": finding.what}) if as_json else finding, flush=True)
        bad += finding.bad
    if not as_json:
        print(f"{bad} findings stand in the way" if bad else "nothing stands in the way")
    return int(bad > 0)
