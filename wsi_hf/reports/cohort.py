"""Judge a model on a cohort: segment every slide, compare with labels and outlines, write figures and a report."""

import csv
import errno
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedModel

from wsi_hf.cohorts.rows import as_cohort
from wsi_hf.evaluation.froc.curve import Convention
from wsi_hf.evaluation.froc.patches import PATCH_UM
from wsi_hf.evaluation.judging import Judge, JudgingSettings
from wsi_hf.evaluation.panels import OverlayPanel
from wsi_hf.evaluation.records import SlideRecord, load_record
from wsi_hf.evaluation.results import Evaluation, evaluate_records, write_detection_folder
from wsi_hf.evaluation.slide_rows import write_slide_rows
from wsi_hf.evaluation.summary import write_metrics
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.reports.figures import plot_froc, plot_roc
from wsi_hf.reports.overlays import plot_gallery
from wsi_hf.reports.reliability import plot_reliability
from wsi_hf.reports.report_page import write_report
from wsi_hf.segmentation.provenance import describe_model
from wsi_hf.segmentation.segmentation import describe_run
from wsi_hf.slides.damaged import reading
from wsi_hf.slides.names import FORMULA, check_names
from wsi_hf.slides.replacing import write_text

RECORDS = "_evaluation"
"""Folder of the slides' records; a push to the Hub leaves it out."""
SLIDES = "slides.json"
"""Where the slides lie, beside their records."""
CURVES = ("roc", "froc", "reliability")
PICTURED = 8
"""Slides in the gallery."""


def evaluate_cohort(
    model: PreTrainedModel | PixelNetwork,
    slides: Dataset,
    out: str | Path,
    image_processor: WsiImageProcessor | None = None,
    detection_radius_um: float = 187.0,
    include_itc: bool = False,
    convention: Convention = "challenge",
    *,
    band_um: float = 20.0,
    patch_um: float = PATCH_UM,
    mpp: float | None = None,
    state: PartialState | None = None,
    progress: bool = True,
    **reading: Any,
) -> dict[str, Any]:
    """Segment the slides of a cohort, compute slide AUC, FROC, pixel average precision and Dice, and draw them.

    Writes `metrics.json`, `slides.csv`, `detections/<slide_id>.csv`, `roc`, `froc` and `reliability` as .png and .svg,
    `overlays.png`, `overlay.png` (one slide, without its name) and `report.html`. The slides' records lie in
    `_evaluation/`: a run that was stopped goes on from there, and a slide is judged again if it, its annotation, the
    model, its calibration or a setting changed.

    Args:
        model: two classes, benign and malignant.
        slides: rows of a cohort (`load_cohort`). Malignant slides without an annotation, or of which some tumour is not
            outlined, count for the AUC alone; metrics.json says which.
        out: folder, made if need be.
        image_processor: the model's.
        detection_radius_um: no two detections lie nearer.
        include_itc: count isolated tumour cells as lesions, against the challenge's rule: for slides so small that most
            of their lesions are shorter than its 275 um.
        convention: of FROC, "challenge" or "release".
        band_um: pixel figures are given a second time without the pixels nearer to an outline than this.
        patch_um: side of the patches that `patch_auc` and its like count.
        mpp: um per level-0 pixel of slides whose files do not say.
        state: shares the slides among the processes of `accelerate launch`; by default this process judges all.
        progress: show a progress bar.
        reading: tile_size, batch_size, num_workers of `segment_slide`.

    Returns:
        What metrics.json holds: for each figure its value, n and 95 % interval. Empty on all processes but the first.
    """
    split = " and ".join(sorted(set(slides["split"]))) if "split" in slides.column_names else "unknown"
    out, slides = Path(out), as_cohort(slides)
    network = model if isinstance(model, PixelNetwork) else PixelNetwork(model, image_processor)
    index, count = (state.process_index, state.num_processes) if state else (0, 1)
    settings = JudgingSettings(detection_radius_um, band_um=band_um, patch_um=patch_um)
    judge = Judge(network, out / RECORDS, settings, mpp, **reading)
    share = sorted(slides, key=lambda row: -_size(row["path"]))[index::count]  # the largest first: all end together
    failed = judge.judge_all(share, progress and index == 0)
    if count > 1:
        failed = dict(gather_object(list(failed.items())))
    if index:
        return {}
    files = {row["slide_id"]: os.path.abspath(row["path"]) for row in slides}
    write_text(out / RECORDS / SLIDES, json.dumps(files, indent=1) + "\n")
    judged = [row["slide_id"] for row in slides if row["slide_id"] not in failed]
    evaluation = evaluate_records(
        read_records(out, judged), failed, convention, include_itc, split, slides.info.dataset_name
    )
    model_facts, described = describe_model(network), describe_run(network, None, "auto", 0.5, None)["settings"]
    facts = {name: model_facts[name] for name in ("revision", "fingerprint")}
    return write_evaluation(evaluation, out, facts | {"calibration": described["calibration"]})


def read_evaluation(out: str | Path) -> Evaluation:
    """Compute the figures of an evaluated folder again, from its slides' records and by the same rules.

    Raises:
        ValueError: it holds no evaluation, or a file of it is damaged; the message names the file.
    """
    out = Path(out)
    try:
        failed, rules = read_rules(out / "metrics.json")
        records = read_records(out, read_slide_ids(out / "slides.csv"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{out} holds no evaluation (no {Path(error.filename).name}); run wsi-hf evaluate first"
        ) from None
    return evaluate_records(records, failed, **rules)


def read_rules(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """From metrics.json: {slide: why it failed}, and the other arguments of `evaluate_records`."""
    with reading(path, "metrics.json of an evaluation", "evaluate again"):
        figures = json.loads(path.read_text(encoding="utf-8"))
        failed, froc = figures["cohort"]["failed"], figures["froc"]
        rules = {"convention": froc["convention"], "include_itc": froc["include_itc"]}
        rules["split"] = str(figures["cohort"].get("split", "unknown"))
        rules["dataset"] = figures["cohort"].get("dataset")
        if not isinstance(failed, dict) or rules["convention"] not in get_args(Convention):
            raise ValueError("its cohort or the rules of its FROC are of another kind")
        return failed, rules


def read_slide_ids(path: Path) -> list[str]:
    """The slides of slides.csv; a ' before what a spreadsheet would run is not part of the name."""
    with (
        reading(path, "slides.csv of an evaluation", "evaluate again"),
        open(path, newline="", encoding="utf-8") as file,
    ):
        names = [row["slide_id"] for row in csv.DictReader(file)]
        names = [name[1:] if name.startswith(tuple(f"'{first}" for first in FORMULA)) else name for name in names]
        check_names(names, path.name)
        return names


def read_records(out: str | Path, slide_ids: Iterable[str]) -> dict[str, SlideRecord]:
    """Read the records of slides in an evaluated folder."""
    folder = Path(out) / RECORDS
    records = {name: load_record(folder / f"{name}.npz") for name in sorted(slide_ids)}
    if absent := [name for name, record in records.items() if record is None]:
        raise FileNotFoundError(errno.ENOENT, "no record", str(folder / f"{absent[0]}.npz"))
    return {name: record for name, record in records.items() if record is not None}


def write_evaluation(evaluation: Evaluation, out: str | Path, model: Mapping[str, Any]) -> dict[str, Any]:
    """Write all figures, tables and pictures; give what metrics.json holds: the figures, "cohort", and "model"."""
    out = Path(out)
    figures = evaluation.metrics() | {"model": dict(model)}
    rows = evaluation.rows()
    write_detection_folder(out / "detections", evaluation.records)
    write_slide_rows(out / "slides.csv", rows)
    for suffix in (".png", ".svg"):
        plot_roc(evaluation.roc, out / f"roc{suffix}")
        plot_froc(evaluation.froc, out / f"froc{suffix}", evaluation.interval)
        plot_reliability(figures["decision"]["reliability"], out / f"reliability{suffix}", figures["calibration_error"])
    plot_gallery([record.panel() for record in worth_seeing(evaluation.records)], out / "overlays.png")
    plot_gallery([nameless_example(evaluation.records)], out / "overlay.png")
    write_report(evaluation, rows, figures, out / "report.html", [out / f"{name}.svg" for name in CURVES])
    write_metrics(figures, out / "metrics.json")
    return figures


def worth_seeing(records: Mapping[str, SlideRecord], pictured: int = PICTURED) -> list[SlideRecord]:
    """Choose three malignant slides for each benign one, evenly over the order of their scores."""
    chosen = []
    for label, count in ((1, pictured * 3 // 4), (0, pictured // 4)):
        ranked = sorted((record for record in records.values() if record.label == label), key=lambda r: -r.margin)
        count = min(count, len(ranked))
        chosen += [ranked[round(i * (len(ranked) - 1) / max(1, count - 1))] for i in range(count)]
    return chosen


def nameless_example(records: Mapping[str, SlideRecord]) -> OverlayPanel:
    """Show the malignant slide of median score (a benign one where there is none), without its name."""
    label = max(record.label for record in records.values())
    ranked = sorted((record for record in records.values() if record.label == label), key=lambda r: r.margin)
    example = ranked[len(ranked) // 2]
    return replace(example.panel(), title=example.verdict)


def _size(path: str) -> int:
    """Bytes of a slide's file; 0 where there is none, or for a folder."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
