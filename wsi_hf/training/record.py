"""What a training was, as JSON beside its model: the arguments, to be published, and what the card tells besides."""

import dataclasses
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import TrainingArguments

from wsi_hf.hub.run_files import ARGUMENTS, SUMMARY
from wsi_hf.slides.replacing import write_text

LABELS = ("benign", "malignant")
PACKAGES = ("wsi_hf", "torch", "transformers", "accelerate")
# Arguments that speak of this machine, this account or this console, not of the model.
LOCAL = (
    "output_dir", "run_name", "project", "report_to", "resume_from_checkpoint", "deepspeed", "fsdp", "fsdp_config",
    "overwrite_output_dir", "local_rank", "disable_tqdm", "debug", "mapping_device", "push_to_hub", "ddp_backend",
    "ddp_timeout",
)  # fmt: skip
LOCAL_PREFIXES = ("hub_", "log_", "logging_", "trackio_")


def write_record(
    folder: Path,
    args: TrainingArguments,
    train: datasets.Dataset,
    validation: datasets.Dataset | None,
    progress: Mapping[str, Any],
    labelled: bool = True,
) -> None:
    """Write training_args.json and training_summary.json.

    Args:
        train, validation: the slides; their labels are counted, and what they are called is taken from `info`.
        progress: steps, patches, seconds, resumed_from_step, lost_slides; validation where there was an evaluation.
        labelled: the labels are the slides' own.
    """
    parts = {"train": train, "validation": validation}
    summary = {
        **progress,
        "device": _device_name(args),
        "processes": args.world_size,
        "slides": {name: _counts(part, labelled) for name, part in parts.items() if part is not None},
        "dataset": train.info.dataset_name,
        "dataset_license": train.info.license or None,
        "versions": {package: version(package) for package in PACKAGES},
    }
    write_text(folder / ARGUMENTS, json.dumps(shared_arguments(args), indent=2, sort_keys=True) + "\n")
    write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def shared_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The arguments that make up the training, as plain JSON; what is local to a machine or an account is left out."""
    names = {field.name for field in dataclasses.fields(args)}
    values = {name: value for name, value in args.to_dict().items() if name in names}
    shared = {
        name: value for name, value in values.items() if name not in LOCAL and not name.startswith(LOCAL_PREFIXES)
    }
    return json.loads(json.dumps(shared, default=str))


def last_validation(history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The newest evaluation during the training: slide_auc, slides, step."""
    for entry in reversed(history):
        if "eval_slide_auc" in entry:
            return {"slide_auc": entry["eval_slide_auc"], "slides": entry["eval_slides"], "step": entry["step"]}
    return None


def _counts(slides: datasets.Dataset, labelled: bool) -> dict[str, int]:
    if not labelled:
        return {"unlabelled": len(slides)}
    counted = Counter(slides["label"])
    return {name: counted[number] for number, name in enumerate(LABELS)}


def _device_name(args: TrainingArguments) -> str:
    if args.device.type == "cuda":
        return torch.cuda.get_device_name(args.device)
    return f"{args.device.type.upper()} ({platform.machine()})"
