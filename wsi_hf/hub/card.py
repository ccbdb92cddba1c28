"""The model card, rendered from what a run left in its folder: it tells what was measured and what was not."""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .run_files import ARGUMENTS, CONFIG, CURVES, METRICS, OVERLAY, SUMMARY, read_json

TEMPLATE = Path(__file__).with_name("card_template.md")
TASK = ("image-segmentation", "Whole-slide segmentation from slide labels")
METRIC_NAMES = {  # key in metrics.json -> (type on the Hub, what it is called)
    "slide_auc": ("roc_auc", "slide ROC AUC"),
    "slide_auc_robust": ("roc_auc", "slide ROC AUC by the mean of the largest pixels"),
    "froc": ("froc", "FROC, mean sensitivity at 1/4 to 8 false positives a slide"),
    "pixel_average_precision": ("average_precision", "pixel average precision"),
    "dice": ("dice", "pixel Dice at P = 0.5"),
    "dice_malignant": ("dice", "pixel Dice at P = 0.5, malignant slides"),
}
SYNTHETIC = "synthetic slides"
# Argument of the training or of the configuration -> the paper's words.
PAPER = {
    "filters": "32 filters in the first layer",
    "depth": "not said",
    "mpp": "1 um a pixel",
    "smoothing": "none",
    "eta": "eta = 50",
    "beta_0": "beta = (0, 1)",
    "beta_1": "beta = (0, 1)",
    "beta_1_warmup_start": "no warm-up",
    "beta_1_warmup_steps": "no warm-up",
    "alpha": "alpha = 2",
    "dynamic_sampling": "dynamic sampling",
    "draw_from": "the latest probability map",
    "max_epochs_unmapped": "every slide at least once every N epochs",
    "augment_rotate": "rotation",
    "augment_mirror": "mirroring",
    "augment_elastic_px": "elastic deformation",
    "augment_stain": "colour jitter",
    "augment_colour": "colour jitter",
    "patch_size": "not said",
    "shuffle_buffer": "a shuffle buffer, size not said",
    "slides_per_round": "not said",
    "steps_per_round": "synchronously and in parallel",
    "per_device_train_batch_size": "not said",
    "gradient_accumulation_steps": "not said",
    "max_steps": "not said",
    "optim": "not said",
    "learning_rate": "not said",
    "lr_scheduler_type": "not said",
    "weight_decay": "not said",
    "bf16": "not said",
    "seed": "not said",
}


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
        figures=[_figure_row(name, figure) for name, figure in metrics.items() if _is_figure(figure)],
        validation={key: escape(_shown(value)) for key, value in (summary.get("validation") or {}).items()},
        rules=_rules(metrics.get("froc", {})),
        dataset=escape(dataset) if dataset else None,
        dataset_license=escape(dataset_license or summary.get("dataset_license") or "not stated by the publisher"),
        auto_encoder=auto_encoder,
        synthetic=dataset == SYNTHETIC,
        slides=_slide_rows(summary.get("slides") or {}, metrics),
        hyperparameters=_hyperparameters(arguments, config),
        compute=_compute(summary, arguments, config.get("initialized_from") or {}),
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
            dataset_split="test",
            metric_type=METRIC_NAMES[name][0],
            metric_name=f"{METRIC_NAMES[name][1]} (n = {figure['n']} slides{_interval(figure, ', 95 % CI ')})",
            metric_value=round(figure["value"], 4),
            metric_args={"n": figure["n"], "ci95": figure.get("ci95")},
        )
        for name, figure in metrics.items()
        if name in METRIC_NAMES and _is_figure(figure) and figure["value"] is not None
    ]


def escape(value: object) -> str:
    """Text that Markdown and HTML show and do not obey: no tags, no links, no table cells, on one line."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*\[\]|{}])", lambda found: f"&#{ord(found[1])};", text)


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


def _slide_rows(slides: Mapping[str, Mapping[str, int]], metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = [{"split": escape(split), **{k: escape(v) for k, v in counts.items()}} for split, counts in slides.items()]
    test = metrics.get("slide_auc", {})
    if {"n", "n_malignant"} <= set(test):
        benign = test["n"] - test["n_malignant"]
        rows.append({"split": "evaluation", "benign": escape(benign), "malignant": escape(test["n_malignant"])})
    return rows


def _hyperparameters(arguments: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, str]]:
    values = {**config, **{name: value for name, value in arguments.items() if value is not None}}
    return [
        {"name": name, "value": escape(_shown(values[name])), "paper": paper}
        for name, paper in PAPER.items()
        if name in values
    ]


def _compute(
    summary: Mapping[str, Any], arguments: Mapping[str, Any], origin: Mapping[str, Any]
) -> list[tuple[str, str]]:
    before = [
        f"{origin.get('tensors')} tensors of {origin.get('name')} ({origin.get('architecture')})" if origin else None,
        f"{origin['steps']} steps" if origin.get("steps") else None,
        f"{origin['patches']} patches" if origin.get("patches") else None,
        _duration(origin["seconds"]) if origin.get("seconds") else None,
    ]
    shown = {
        "started from": ", ".join(part for part in before if part),
        "device": summary.get("device"),
        "processes": summary.get("processes"),
        "optimiser steps": summary.get("steps"),
        "patches": summary.get("patches"),
        "time": _duration(summary["seconds"]) if summary.get("seconds") else None,
        "training slides that could not be read": summary.get("lost_slides") or None,
        "resumed from step": summary.get("resumed_from_step") or None,
        "mapping": arguments.get("mapping"),
        "versions": ", ".join(f"{name} {version}" for name, version in (summary.get("versions") or {}).items()),
    }
    return [(name, escape(value)) for name, value in shown.items() if value]


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
