"""The evaluation as one HTML page that needs nothing else: figures, curves, and all slides, the worst first."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.colors import to_hex
from PIL import Image, ImageDraw

from wsi_hf.evaluation.panels import OverlayPanel
from wsi_hf.evaluation.records import SlideRecord
from wsi_hf.evaluation.results import Evaluation
from wsi_hf.evaluation.slide_rows import SlideRow
from wsi_hf.reports.overlays import HEAT, OUTLINE, heat_image, outline_rings
from wsi_hf.slides.replacing import replacing

TEMPLATE = Path(__file__).with_suffix(".html")
PICTURE_PX = 512
JPEG_QUALITY = 78
NAMES = {
    "sensitivity": "Sensitivity at P = 0.5",
    "specificity": "Specificity at P = 0.5",
    "balanced_accuracy": "Balanced accuracy",
    "false_lesions": "False lesions a benign slide",
    "lesions_found": "Lesions over 500 µm² found",
    "calibration_error": "Expected calibration error",
    "slide_auc": "Slide ROC AUC",
    "slide_auc_robust": "Slide ROC AUC, robust score",
    "froc": "FROC, mean sensitivity",
    "pixel_average_precision": "Pixel average precision",
    "dice": "Dice at P = 0.5",
    "patch_auc": "Patch ROC AUC",
    "patch_average_precision": "Patch average precision",
    "patch_froc": "Patch FROC, mean sensitivity",
}
COLUMNS = (  # of a SlideRow: name, title, kind, format
    ("slide_id", "slide", "text", "{}"),
    ("label", "label", "text", "{}"),
    ("called", "called", "text", "{}"),
    ("error", "error", "number", "{:.3f}"),
    ("score", "P(slide)", "number", "{:.3f}"),
    ("raw_score", "largest pixel", "number", "{:.3f}"),
    ("margin", "margin", "number", "{:.1f}"),
    ("outlined", "outlined", "number", "{}"),
    ("lesions", "lesions", "number", "{}"),
    ("found", "found", "number", "{}"),
    ("false_positives", "false alarms", "number", "{}"),
    ("average_precision", "pixel AP", "number", "{:.3f}"),
    ("dice", "Dice", "number", "{:.3f}"),
    ("note", "note", "note", "{}"),
)
NOTHING = "–"  # noqa: RUF001


def write_report(
    evaluation: Evaluation,
    rows: Sequence[SlideRow],
    figures: Mapping[str, Mapping[str, Any]],
    path: str | Path,
    curves: Sequence[Path] = (),
    title: str = "Evaluation of whole-slide segmentation",
) -> None:
    """Write report.html under a temporary name and rename it.

    Args:
        evaluation: of a cohort.
        rows: its slides, in the order of the table.
        figures: what metrics.json holds.
        path: the page.
        curves: pictures (.svg) to embed.
        title: of the page.
    """
    path = Path(path)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    cohort = figures["cohort"]
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        subtitle=f"{cohort['n']} {_split(cohort)}, {cohort['n_malignant']} of them malignant. For research use only.",
        decision=_decision(figures),
        figures=[_figure(name, figures[key]) for key, name in NAMES.items() if key in figures],
        delong=_interval(figures["slide_auc"].get("ci95_delong")),
        rules=_rules(figures["froc"]),
        interrupted=f"{len(evaluation.failed)} slides could not be judged." if evaluation.failed else "",
        curves=[{"data": _data(curve.read_bytes(), "image/svg+xml"), "alt": f"{curve.stem} curve"} for curve in curves],
        remarks=list(_remarks(cohort)),
        columns=[{"name": text, "kind": _kind(kind), "sorted": name == "error"} for name, text, kind, _ in COLUMNS],
        rows=[
            {"cells": [_cell(row, *column) for column in COLUMNS], "pictures": _pictures(evaluation, row)}
            for row in rows
        ],
        picture_px=PICTURE_PX,
        ramp=[to_hex(HEAT(share)) for share in np.linspace(0, 1, 9)],
    )
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def _split(cohort: Mapping[str, Any]) -> str:
    """What the judged slides were to the training."""
    split = cohort.get("split", "unknown")
    return "slides of an unknown split" if split == "unknown" else f"{split} slides"


def _decision(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The confusion table, and in words what stands behind the operating point."""
    decision, calibration = figures["decision"], figures.get("model", {}).get("calibration")
    words = ["The model is not calibrated: its verdicts are cuts at the network's own P = 0.5, which say little."]
    if decision["calibrated"]:
        words = ["0.5 is the operating point, set on slides that were not trained on, by their labels alone."]
    if decision["calibrated"] and calibration:
        counts = f"{calibration['n_benign']} benign and {calibration['n_malignant']} malignant slides"
        words.append(f"Rule: {calibration['rule']}; set on {counts}.")
        if figures["cohort"].get("split") != "test":
            words.append("They may be those judged here: the figures at the operating point are then too good.")
    if count := decision["unlike_the_calibration"]:
        words.append(f"{count} slides are unlike the slides that the model was calibrated on.")
    return {**decision["confusion"], "words": " ".join(words)}


def _figure(name: str, figure: Mapping[str, Any]) -> dict[str, str]:
    value = NOTHING if figure["value"] is None else f"{figure['value']:.3f}"
    interval = _interval(figure["ci95"])
    lesions = f", {figure['n_lesions']} lesions" if "n_lesions" in figure else ""
    patches = f", {figure['n_tumour_patches']} of {figure['n_patches']} patches tumour" if "n_patches" in figure else ""
    return {
        "name": name,
        "value": value,
        "interval": f"95 % interval {interval}" if interval else "no interval",
        "n": f"n = {figure['n']} slides{lesions}{patches}",
    }


def _interval(bounds: Sequence[float | None] | None) -> str:
    if not bounds or None in bounds:
        return ""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _rules(froc: Mapping[str, Any]) -> str:
    if froc["include_itc"]:
        itc = "foci shorter than 275 µm count as lesions, against the challenge's rule"
    else:
        itc = f"{froc['n_isolated_tumour_cells']} foci shorter than 275 µm (isolated tumour cells) do not count"
    return f"FROC: convention “{froc['convention']}”; {itc}."


def _remarks(cohort: Mapping[str, Any]) -> list[str]:
    remarks = [f"Data set: {cohort['dataset']}."] if cohort.get("dataset") else []
    remarks += [f"{name} counts for the AUC alone: {why}." for name, why in cohort["not_in_froc_and_pixels"].items()]
    remarks += [f"{name} could not be read in parts." for name in cohort["partly_not_analysed"]]
    remarks += [f"{name} is left out: {why}" for name, why in cohort["failed"].items()]
    remarks += [f"{count} slides were scanned at {mpp} µm a pixel." for mpp, count in cohort["mpp_l0"].items()]
    return remarks


def _cell(row: SlideRow, name: str, text: str, kind: str, form: str) -> dict[str, Any]:
    value = getattr(row, name)
    absent = value is None or (isinstance(value, float) and np.isnan(value))
    return {
        "kind": kind,
        "value": "" if absent else value,
        "text": NOTHING if absent else form.format(value),
        "strong": name in ("label", "called") and value == "malignant",
    }


def _kind(kind: str) -> str:
    return "number" if kind == "number" else "text"


def _pictures(evaluation: Evaluation, row: SlideRow) -> list[dict[str, Any]]:
    record = evaluation.records[row.slide_id]
    both = zip(("thumbnail", "probability map and outline"), _thumbnails(record), strict=True)
    return [
        {
            "data": _data(_jpeg(image), "image/jpeg"),
            "alt": f"{row.slide_id}, {what}",
            "width": image.width,
            "height": image.height,
        }
        for what, image in both
    ]


def _thumbnails(record: SlideRecord) -> tuple[Image.Image, Image.Image]:
    """Draw the slide, and the slide in grey under its map with the annotated outline."""
    panel = record.panel()
    small = Image.fromarray(panel.image)
    small.thumbnail((PICTURE_PX, PICTURE_PX))
    panel = OverlayPanel(np.asarray(small), panel.probabilities, panel.truth, "", panel.dimensions_l0, panel.mpp)
    heat = Image.fromarray(heat_image(panel))
    draw = ImageDraw.Draw(heat)
    for ring in outline_rings(panel):
        draw.line([(float(x), float(y)) for x, y in ring], fill=OUTLINE, width=2)
    return small, heat


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
