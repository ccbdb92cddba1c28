"""`wsi-hf calibrate`: set a model's operating point from labelled slides that it was not trained on."""

import shutil
from pathlib import Path
from typing import Any

import click

from wsi_hf.cli.network import load_network, network_options
from wsi_hf.cli.progress import progress_wanted
from wsi_hf.cli.slides import slides_of_split


@click.command(short_help="set a model's operating point from labelled slides")
@click.option("--model", required=True, help="a folder (it gets the calibration unless --out), or a name on the Hub")
@click.option("--cohort", required=True, type=Path, help="CSV table of slides, or CAMELYON16 folder; labels suffice")
@click.option("--slides", type=Path, help="folder of the slides of a manifest on the Hub")
@click.option("--labels", type=Path, help="CSV table that goes before a CAMELYON16 folder's own labels: CAMELYON+")
@click.option(
    "--split", type=click.Choice(("train", "validation", "test")), help="(validation, or the only one there is)"
)
@click.option(
    "--sensitivity", type=click.FloatRange(0, 1, True, True), help="share of malignant slides to be called so"
)
@click.option("--specificity", type=click.FloatRange(0, 1, True, True), help="share of benign slides to be called so")
@click.option(
    "--false-lesions", "--false_lesions", default=0.25, help="lesions that a benign slide may show on average"
)
@click.option("--out", type=Path, help="folder for a calibrated copy of the model")
@click.option("--batch-size", default=1, help="tiles a forward pass")
@click.option("--num-workers", default=2, help="threads that read")
@network_options
def calibrate(
    model: str,
    cohort: Path,
    slides: Path | None,
    labels: Path | None,
    split: str | None,
    sensitivity: float | None,
    specificity: float | None,
    false_lesions: float,
    out: Path | None,
    mpp: float | None,
    override_mpp: float | None,
    **options: Any,
) -> int:
    """Set what counts as malignant, slides and pixels, from the labels of slides that the model was not trained on.

    Best balanced accuracy is the default; --sensitivity or --specificity ask for another operating point. Twenty benign
    and twenty malignant slides are enough to be useful, and it says how sure one can be. Slides that were measured
    before are not segmented again. Nothing is written unless all of it went well.
    """
    from wsi_hf.calibration.calibrating import calibrate as set_operating_point
    from wsi_hf.calibration.calibrating import certainty, save_calibration
    from wsi_hf.calibration.slide_decision import Rule
    from wsi_hf.cohorts.camelyon16 import load_cohort

    if sensitivity is not None and specificity is not None:
        raise ValueError("one operating point can be asked for: --sensitivity or --specificity")
    if out is None and not Path(model).is_dir():
        raise ValueError(f"{model} is no folder that the calibration could be written into; say --out")
    if out is not None and (out / "config.json").exists():
        raise ValueError(f"{out} holds a model already; choose another folder")
    asked: Rule = "sensitivity" if sensitivity is not None else "specificity"
    rule: Rule = "balanced accuracy" if sensitivity is None and specificity is None else asked
    chosen = slides_of_split(load_cohort(cohort, slides, labels=labels), split, "validation", cohort)
    rows = [{**row, "mpp": override_mpp or row["mpp"]} for row in chosen]
    reading = {name: options.pop(name) for name in ("tile_size", "batch_size", "num_workers")}
    calibration, failed = set_operating_point(
        load_network(model, **options), rows, out or Path(model), rule, sensitivity or specificity or 0.0,
        false_lesions, mpp, progress=progress_wanted(), **reading,
    )  # fmt: skip
    if out is not None:
        _copy_model(model, options["revision"], out)
    save_calibration(out or Path(model), calibration)
    print("\n".join(certainty(calibration)))
    print(f"{out or model} carries it; judge it on other slides with wsi-hf evaluate")
    return int(bool(failed))


def _copy_model(model: str, revision: str | None, out: Path) -> None:
    """Copy a model with its image processor and what tells of its training; config.json comes last."""
    from wsi_hf.hub.run_files import CARD, OF_THESE_WEIGHTS
    from wsi_hf.inference.loading import load_model

    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    network, image_processor = load_model(model, revision)
    network.save_pretrained(part)
    image_processor.save_pretrained(part)
    if Path(model).is_dir():
        left_out = {CARD, *OF_THESE_WEIGHTS, *(path.name for path in part.iterdir())}
        for path in Path(model).iterdir():
            if path.is_file() and path.name not in left_out and not path.name.startswith("."):
                shutil.copy2(path, part)
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(part.iterdir(), key=lambda path: path.name == "config.json"):
        path.replace(out / path.name)
    part.rmdir()
