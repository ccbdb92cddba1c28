"""The model card, rendered from what a run left in its folder: it tells what was measured and what was not."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .card_tables import compute, escape, hyperparameters, judged_split, shown, slide_rows
from .run_files import ARGUMENTS, CONFIG, CURVES, METRICS, OVERLAY, SUMMARY, read_json

TEMPLATE = Path(__file__).with_name("card_template.md")
TASK = ("image-segmentation", "Whole-slide segmentation from slide labels")
METRIC_NAMES = {  # key in metrics.json -> (type on the Hub, what it is called)
    "sensitivity": ("recall", "sensitivity at the operating point"),
    "specificity": ("specificity", "specificity at the operating point"),
    "balanced_accuracy": ("balanced_accuracy", "balanced accuracy at the operating point"),
    "calibration_error": ("expected_calibration_error", "expected calibration error of the slide probability"),
    "false_lesions": ("false_lesions", "false lesions a benign slide"),
    "lesions_found": ("lesions_found", "share of lesions over 500 um2 that are found"),
    "slide_auc": ("roc_auc", "slide ROC AUC"),
    "slide_auc_robust": ("roc_auc", "slide ROC AUC by the mean of the largest pixels"),
    "froc": ("froc", "FROC, mean sensitivity at 1/4 to 8 false positives a slide"),
    "pixel_average_precision": ("average_precision", "pixel average precision"),
    "dice": ("dice", "pixel Dice at P = 0.5"),
    "dice_malignant": ("dice", "pixel Dice at P = 0.5, malignant slides"),
    "patch_auc": ("roc_auc", "patch ROC AUC"),
    "patch_average_precision": ("average_precision", "patch average precision"),
    "patch_froc": ("froc", "patch FROC, mean sensitivity at 1/4 to 8 false positives a slide"),
}
AT_OPERATING_POINT = (
    *("sensitivity", "specificity", "balanced_accuracy", "calibration_error", "false_lesions", "lesions_found"),
    *("dice", "dice_malignant", "dice_outside_band", "dice_malignant_outside_band", "decision"),
    *("patch_auc", "patch_average_precision", "patch_froc"),
)
"""What changes when a model is calibrated anew; rankings do not."""
JUDGED = {
    "test": "test slides, which neither the training nor any choice saw",
    "validation": "validation slides, not test slides: the training may have been chosen by them, the calibration was",
    "train": "slides that the model was trained on",
}
SYNTHETIC = "synthetic slides"


def model_card(
    folder: str | Path,
    repo_id: str,
    license: str = "apache-2.0",
    dataset: str | None = None,
    dataset_license: str | None = None,
    remote_code_pipeline: bool = False,
) -> ModelCard:
    """Render the card of a run.

    Args:
        folder: with config.json and, where there are any, metrics.json, training_args.json, training_summary.json and
            the pictures.
        repo_id: organisation/name, for the lines of use.
        license: of the weights, an identifier of the Hub.
        dataset: what to call the slides, or the name of a data set on the Hub; by default what the training knew.
        dataset_license: of the slides.
        remote_code_pipeline: say that the flag is needed.
    """
    folder = Path(folder)
    config, arguments, summary, metrics = (read_json(folder / name) for name in (CONFIG, ARGUMENTS, SUMMARY, METRICS))
    metrics, stale = _of_this_calibration(metrics, config)
    dataset = dataset or summary.get("dataset")
    on_hub = bool(dataset and re.fullmatch(r"[\w.-]+/[\w.-]+", dataset))
    results = eval_results(metrics, dataset)
    auto_encoder = "WsiUNetForReconstruction" in (config.get("architectures") or ())
    data = ModelCardData(
        license=license,
        library_name="wsi_hf",
        pipeline_tag=None if auto_encoder else TASK[0],
        tags=["whole-slide-imaging", "computational-pathology", "weakly-supervised", "wsi-segmentation"],
        datasets=[str(dataset)] if on_hub else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=repo_id.split("/")[-1],
        eval_results=results or None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        repo_id=escape(repo_id),
        name=escape(repo_id.split("/")[-1]),
        trust=", trust_remote_code=True" if remote_code_pipeline else "",
        architecture=escape((config.get("architectures") or ["unknown"])[0]),
        mpp=escape(read_json(folder / "preprocessor_config.json").get("mpp", config.get("mpp", "unknown"))),
        labels=[escape(label) for label in (config.get("id2label") or {}).values()],
        judged=JUDGED.get(judged_split(metrics), "slides of a split that was not recorded"),
        split=escape(judged_split(metrics)),
        calibration=_calibration(config.get("calibration")),
        stale=stale,
        confusion={name: escape(n) for name, n in metrics.get("decision", {}).get("confusion", {}).items()},
        figures=[_figure_row(name, figure) for name, figure in metrics.items() if _is_figure(figure)],
        validation={key: escape(shown(value)) for key, value in (summary.get("validation") or {}).items()},
        rules=_rules(metrics.get("froc", {})),
        dataset=escape(dataset) if dataset else None,
        dataset_license=escape(dataset_license or summary.get("dataset_license") or "not stated by the publisher"),
        auto_encoder=auto_encoder,
        synthetic=dataset == SYNTHETIC,
        slides=slide_rows(summary.get("slides") or {}, metrics),
        hyperparameters=hyperparameters(arguments, config),
        compute=compute(summary, arguments, config.get("initialized_from") or {}),
        license=escape(license),
        travels="auto_map" in config,
        arguments=ARGUMENTS if arguments else None,
        overlay=OVERLAY if (folder / OVERLAY).exists() else None,
        curves=[name for name in CURVES if (folder / name).exists()],
    )
    return card


def eval_results(metrics: Mapping[str, Any], dataset: str | None) -> list[EvalResult]:
    """The figures of metrics.json as the Hub's model-index has them: each with its n and its interval."""
    known = dataset or "unnamed slides"
    return [
        EvalResult(
            task_type=TASK[0],
            task_name=TASK[1],
            dataset_type=re.sub(r"[^\w./-]+", "-", known.lower()).strip("-") or "unnamed",
            dataset_name=known,
            dataset_split=judged_split(metrics),
            metric_type=METRIC_NAMES[name][0],
            metric_name=f"{METRIC_NAMES[name][1]} (n = {figure['n']} slides{_interval(figure, ', 95 % CI ')})",
            metric_value=round(figure["value"], 4),
            metric_args={"n": figure["n"], "ci95": figure.get("ci95")},
        )
        for name, figure in metrics.items()
        if name in METRIC_NAMES and _is_figure(figure) and figure["value"] is not None
    ]


def _of_this_calibration(metrics: dict[str, Any], config: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The figures that hold for the model as it is calibrated now, and whether some do not."""
    judged_with = metrics.get("model", {}).get("calibration")
    now = config.get("calibration") or None
    if not metrics or judged_with == (now and {name: now.get(name) for name in judged_with or ("version",)}):
        return metrics, False
    return {name: figure for name, figure in metrics.items() if name not in AT_OPERATING_POINT}, True


def _calibration(stored: Any) -> dict[str, str] | None:
    """What the card says of the calibration in config.json."""
    if not isinstance(stored, dict):
        return None
    lesions = stored.get("expected", {}).get("false_lesions", {})
    facts = {name: stored.get(name) for name in ("rule", "n_benign", "n_malignant")}
    facts |= {name: lesions.get(name) for name in ("bound", "met")}
    facts["likeness"] = bool(stored.get("likeness"))
    return {
        name: escape(shown(round(value, 2) if isinstance(value, float) else value)) for name, value in facts.items()
    }


def _is_figure(figure: Any) -> bool:
    return isinstance(figure, dict) and {"value", "n"} <= set(figure)


def _figure_row(name: str, figure: Mapping[str, Any]) -> dict[str, str]:
    value = figure["value"]
    return {
        "name": escape(METRIC_NAMES.get(name, (None, name.replace("_", " ")))[1]),
        "value": "undefined" if value is None else f"{value:.3f}",
        "ci95": _interval(figure) or "none",
        "n": escape(figure["n"]),
    }


def _interval(figure: Mapping[str, Any], before: str = "") -> str:
    bounds = figure.get("ci95")
    if not bounds or None in bounds:
        return ""
    return f"{before}{bounds[0]:.3f}-{bounds[1]:.3f}"


def _rules(froc: Mapping[str, Any]) -> str | None:
    """How lesions were counted, where that departs from the challenge."""
    if not froc:
        return None
    if froc.get("include_itc"):
        return "Lesions shorter than 275 um count in the FROC here, which the CAMELYON16 challenge leaves out."
    return "FROC by the rules of the CAMELYON16 challenge."
