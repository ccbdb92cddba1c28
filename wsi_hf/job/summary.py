"""What a job sees before its first step, in a few lines: slides, recipe, machine, hours, and what is missing."""

import copy
import os
import shutil
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import PreTrainedModel

from wsi_hf.cohorts.camelyon16 import LABELS
from wsi_hf.job.slides import CALIBRATED, Slides
from wsi_hf.models.divergence import beta_divergence
from wsi_hf.models.slide_head import slide_logits
from wsi_hf.training.arguments import WsiTrainingArguments

FEW = 20
"""Fewer training slides of a class than this seldom suffice."""


def summary_lines(slides: Slides, model: PreTrainedModel, args: WsiTrainingArguments, recipe: str) -> Iterator[str]:
    """Give the lines. The time of a step is measured on random pixels; reading and mapping run beside it."""
    for name in ("train", "validation", "test"):
        labels = Counter(getattr(slides, name)["label"])
        yield f"{name:<12}" + ", ".join(f"{labels[number]} {label}" for number, label in enumerate(LABELS))
    yield f"recipe      {recipe}"
    dtype = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    yield f"model       {type(model).__name__}, {millions:.2f} million parameters"
    yield f"machine     {args.world_size} x {device_name(args.device)}, {dtype}, mapping {args.mapping}"
    step = seconds_a_step(model, args)
    hours = duration(step * args.max_steps)
    yield f"time        about {hours}: {args.max_steps:,} steps of {step:.2f} s, if reading and mapping keep up"
    yield from (f"missing     {line}" for line in missing(slides))


def missing(slides: Slides) -> Iterator[str]:
    """What a reader of the results should know beforehand."""
    yield from slides.notes
    labels = Counter(slides.train["label"])
    for number, label in enumerate(LABELS):
        if labels[number] < FEW:
            yield f"{labels[number]} {label} training slides are few; expect little from fewer than {FEW} of a class"
    if min(labels[0], labels[1]) < FEW:
        yield "with so few, calibrate a model that others trained: wsi-hf calibrate --model ... --cohort ... --out ..."
    watched = Counter(slides.validation["label"])
    if min(watched[0], watched[1]) < CALIBRATED:
        yield f"fewer than {CALIBRATED} validation slides of a class: the model will not be calibrated"
    split, judged = slides.judged
    if not split:
        yield "no test and no validation slides: the model will be trained and saved, and not judged"
        return
    if split != "test":
        yield "no test slides: the model is judged on the validation slides that it is calibrated on"
    classes = set(judged["label"])
    if len(classes) < 2:
        yield f"{split} slides of one class alone: there is no slide AUC"
    if 1 in classes and not any(row["annotation"] for row in judged if row["label"]):
        yield f"no outlines of the {split} slides: slide AUC is judged, pixels and lesions cannot be"


def next_lines(out: Path, slides: Slides) -> Iterator[str]:
    """The last lines of a job: what lies where, what could not be judged, and a command that works as typed."""
    split, judged = slides.judged
    yield f"\nModel, pictures{' and report.html' if split else ''} are in {out}."
    yield from (f"Not judged: {line}" for line in missing(slides) if "judged" in line or "no slide AUC" in line)
    slide = next(iter(judged["path"] if split else slides.train["path"]))
    yield "Next, segment a slide with it, and look at it in the browser:"
    yield f"    {command()} segment {slide} --model {out} --out maps"
    yield f"    {command()} view maps"


def command() -> str:
    """How this package's command is typed here: by its name, or where it lies if the shell does not know it."""
    if shutil.which("wsi-hf"):
        return "wsi-hf"
    script = Path(sysconfig.get_path("scripts")) / "wsi-hf"
    if not script.exists():
        return f"{sys.executable} -m wsi_hf.cli"
    return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)


def seconds_a_step(model: PreTrainedModel, args: WsiTrainingArguments) -> float:
    """Forward and backward pass of one step on random pixels, of a copy of the model; random states are kept."""
    device, size = args.device, (args.train_batch_size, 3, args.patch_size, args.patch_size)
    with torch.random.fork_rng(enabled=device.type == "cpu"):
        network = copy.deepcopy(model).train().to(device)
        pixels = torch.zeros(size, device=device).to(memory_format=torch.channels_last)
        labels = torch.arange(len(pixels), device=device) % 2
        for _ in range(2):  # the first warms up
            started = time.monotonic()
            with torch.autocast(device.type, torch.bfloat16, enabled=bool(args.bf16)):
                logits = network(pixel_values=pixels).logits
            beta_divergence(slide_logits(logits.float(), 50.0), labels, (0.0, 0.0)).mean().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.monotonic() - started
    return seconds * args.gradient_accumulation_steps


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{max(seconds / 60, 1):.0f} minutes"
