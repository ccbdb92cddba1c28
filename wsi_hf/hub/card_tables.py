"""The card's tables: slides, hyper-parameters beside the paper's, compute; every word made harmless."""

import html
import re
from collections.abc import Mapping
from typing import Any

# Argument of the training or of the configuration -> the paper's words.
PAPER = {
    "filters": "32 filters in the first layer",
    "depth": "not said",
    "mpp": "1 um a pixel",
    "smoothing": "none",
    "guided_smoothing": "none",
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


def judged_split(metrics: Mapping[str, Any]) -> str:
    """Which slides the figures are of."""
    return str(metrics.get("cohort", {}).get("split", "unknown"))


def slide_rows(slides: Mapping[str, Mapping[str, int]], metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = [{"split": escape(split), **{k: escape(v) for k, v in counts.items()}} for split, counts in slides.items()]
    test = metrics.get("slide_auc", {})
    if {"n", "n_malignant"} <= set(test):
        benign = test["n"] - test["n_malignant"]
        judged = escape(f"judged ({judged_split(metrics)})")
        rows.append({"split": judged, "benign": escape(benign), "malignant": escape(test["n_malignant"])})
    return rows


def hyperparameters(arguments: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, str]]:
    values = {**config, **{name: value for name, value in arguments.items() if value is not None}}
    return [
        {"name": name, "value": escape(shown(values[name])), "paper": paper}
        for name, paper in PAPER.items()
        if name in values
    ]


def compute(
    summary: Mapping[str, Any], arguments: Mapping[str, Any], origin: Mapping[str, Any]
) -> list[tuple[str, str]]:
    before = [
        f"{origin.get('tensors')} tensors of {origin.get('name')} ({origin.get('architecture')})" if origin else None,
        f"{origin['steps']} steps" if origin.get("steps") else None,
        f"{origin['patches']} patches" if origin.get("patches") else None,
        duration(origin["seconds"]) if origin.get("seconds") else None,
    ]
    facts = {
        "started from": ", ".join(part for part in before if part),
        "device": summary.get("device"),
        "processes": summary.get("processes"),
        "optimiser steps": summary.get("steps"),
        "patches": summary.get("patches"),
        "time": duration(summary["seconds"]) if summary.get("seconds") else None,
        "training slides that could not be read": summary.get("lost_slides") or None,
        "resumed from step": summary.get("resumed_from_step") or None,
        "mapping": arguments.get("mapping"),
        "versions": ", ".join(f"{name} {version}" for name, version in (summary.get("versions") or {}).items()),
    }
    return [(name, escape(value)) for name, value in facts.items() if value]


def shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def escape(value: object) -> str:
    """Text that Markdown and HTML show and do not obey: no tags, no links, no table cells, on one line."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*\[\]|{}])", lambda found: f"&#{ord(found[1])};", text)
