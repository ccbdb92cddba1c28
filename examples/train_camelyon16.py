"""Train a pixel-resolution segmentation model from slide labels alone, evaluate it, leave a Hub-ready folder.

    accelerate launch examples/train_camelyon16.py                                   # synthetic cohort, about 4 minutes
    accelerate launch examples/train_camelyon16.py --cohort CAMELYON16 --bf16 True   # the paper's setting
    accelerate launch examples/train_camelyon16.py --cohort MOSAIC --recipe mosaic   # real tissue on two CPU cores
    accelerate launch examples/train_camelyon16.py --cohort MOSAIC --recipe mosaic-smooth --init_from runs/mosaic

Without --cohort it writes a synthetic cohort first and takes the recipe "demo", which is smaller than the paper's; with
one it takes the recipe "paper". Any field of WsiTrainingArguments on the command line goes before the recipe.
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser, set_seed

from wsi_hf import WsiImageProcessor, WsiTrainer, WsiTrainingArguments, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.cohorts.camelyon16 import load_cohort, split_validation
from wsi_hf.cohorts.synthetic import synthesize_cohort
from wsi_hf.hub.push import push_run
from wsi_hf.reports.cohort import evaluate_cohort
from wsi_hf.reports.run import plot_run

MOSAIC = {  # what both recipes for mosaics share
    "filters": 16, "depth": 3, "bf16": True, "warmup_steps": 0.1, "alpha": 8.0, "draw_from": "all",
    "steps_per_round": 25, "slides_per_round": 8, "shuffle_buffer": 64, "mapping_tile_size": 768,
    "augment_elastic_px": 0.0,
}  # fmt: skip
# What the paper does not say is marked in WsiTrainingArguments; depth, optimiser and step count are ours.
RECIPES = {
    "paper": {
        "per_device_train_batch_size": 32, "max_steps": 20_000, "learning_rate": 1e-3, "steps_per_round": 100,
        "slides_per_round": 16, "dataloader_num_workers": 8, "save_steps": 1000,
    },
    # Smaller than the paper so that two CPU cores need minutes: 8 filters instead of 32, depth 2, patches of 32 pixels.
    # Not the paper's: discovery first, hardening later. beta_1 stays 0 for almost half the run, then rises to 1, the
    # paper's; patches come from all slides' latest maps, with alpha 8 because maps made under a small beta_1 are flat.
    # What finds the tumour on every seed is many small patches a step and many slides; see docs/experiments.md.
    "demo": {
        "filters": 8, "depth": 2, "patch_size": 32, "per_device_train_batch_size": 128, "max_steps": 450,
        "learning_rate": 5e-3, "warmup_steps": 0.1, "beta_1_warmup_start": 225, "beta_1_warmup_steps": 175,
        "alpha": 8.0, "draw_from": "all", "steps_per_round": 25, "slides_per_round": 16, "shuffle_buffer": 256,
        "mapping_tile_size": 768, "augment_elastic_px": 0.0, "augment_colour": 0.0, "save_steps": 150,
        "detection_radius_um": 40.0, "include_itc": True,  # its lesions are small
    },
    # The same schedule for mosaics of real lymph-node patches: more filters, larger patches, more steps.
    "mosaic": {
        **MOSAIC, "patch_size": 96, "per_device_train_batch_size": 32, "max_steps": 1600, "learning_rate": 5e-3,
        "beta_1_warmup_start": 800, "beta_1_warmup_steps": 400, "save_steps": 400,
    },
    # Goes on from "mosaic" (--init_from): few large patches, and logits averaged (not the paper's), because the maps of
    # real tissue are spotty without. Small patches discover, large ones finish: from random weights this learns less.
    # Slides have no maps when it starts, so that it maps more of them a round.
    "mosaic-smooth": {
        **MOSAIC, "smoothing": 64, "patch_size": 320, "per_device_train_batch_size": 4, "max_steps": 600,
        "learning_rate": 2e-3, "slides_per_round": 44, "save_steps": 200,
    },
    # Mosaics in three minutes, for comparisons (benchmarks/ablation.py): half the resolution, both runs in one.
    "mosaic-quick": {
        **MOSAIC, "mpp": 1.944, "smoothing": 24, "patch_size": 64, "per_device_train_batch_size": 24, "max_steps": 450,
        "learning_rate": 5e-3, "beta_1_warmup_start": 225, "beta_1_warmup_steps": 175, "slides_per_round": 16,
        "save_steps": 150,
    },
}  # fmt: skip
COMMON = {
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.3,
    "logging_steps": 25,
    "save_total_limit": 2,
    "report_to": "none",
}


@dataclass
class ExampleArguments:
    """What is trained on what."""

    cohort: str | None = field(
        default=None,
        metadata={"help": "CAMELYON16 folder, a CSV table of your own slides, or (with slides) a manifest on the Hub"},
    )
    slides: str | None = field(default=None, metadata={"help": "folder of the slides of a manifest on the Hub"})
    recipe: str | None = field(default=None, metadata={"help": f"one of {', '.join(RECIPES)}"})
    filters: int = field(default=32, metadata={"help": "channels of the U-Net's first stage (paper: 32)"})
    depth: int = field(default=4, metadata={"help": "down-samplings of the U-Net (not in the paper)"})
    smoothing: int = field(
        default=0, metadata={"help": "logits are averaged over this many pixels to each side (paper: 0)"}
    )
    mpp: float = field(default=1.0, metadata={"help": "resolution of the model, um a pixel (paper: 1)"})
    init_from: str | None = field(default=None, metadata={"help": "checkpoint to start from, such as an auto-encoder"})
    validation_fraction: float = field(default=0.125, metadata={"help": "share of the training slides set aside"})
    detection_radius_um: float = field(default=187.0, metadata={"help": "no two detections lie nearer (FROC)"})
    include_itc: bool = field(
        default=False, metadata={"help": "FROC counts lesions under 275 um too (not the challenge)"}
    )


def main() -> None:
    example, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    set_seed(args.seed)
    folder = example.cohort
    if folder is None:
        with args.main_process_first(desc="synthetic cohort"):
            folder = synthesize_cohort(Path("cohorts") / f"synthetic-{args.seed}", seed=args.seed)
    cohort = split_validation(load_cohort(folder, example.slides), example.validation_fraction, seed=args.seed)
    train, validation, test = (
        cohort.filter(lambda row, s=s: row["split"] == s) for s in ("train", "validation", "test")
    )

    config = WsiUNetConfig(
        filters=example.filters,
        depth=example.depth,
        mpp=example.mpp,
        smoothing=example.smoothing,
        beta_0=args.beta_0,
        beta_1=args.beta_1,
    )
    model = WsiUNetForSegmentation(config)
    if example.init_from:
        from wsi_hf.training.pretraining import copy_matching

        print(copy_matching(model, example.init_from))
    trainer = WsiTrainer(model, args, train, validation, processing_class=WsiImageProcessor(mpp=example.mpp))
    try:
        resume = args.resume_from_checkpoint
        trainer.train(resume_from_checkpoint=True if resume == "True" else resume)
    except KeyboardInterrupt as stop:
        again = " with --resume_from_checkpoint True" if resume or trainer.state.global_step else ""
        sys.exit(f"{stop}. To go on: the same command{again}")
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()  # the threads of a process group may abort a process that exits with them
    if args.process_index:
        return

    out = Path(args.output_dir)
    metrics = evaluate_cohort(
        model,
        test if len(test) else validation,
        out,
        trainer.image_processor,
        example.detection_radius_um,
        example.include_itc,
    )
    plot_run(out, trainer.state.log_history, train, args.patch_size, example.mpp)
    if args.push_to_hub:
        print(push_run(out, trainer.hub_model_id, revision=args.hub_revision, token=args.hub_token).commit_url)
    print(json.dumps(metrics, indent=1))
    print(f"\nModel, metrics.json and pictures are in {out}. Next, segment a slide of your own with it:")
    print(f"    wsi-hf segment SLIDE --model {out} --out maps")


def parse_arguments() -> tuple[ExampleArguments, WsiTrainingArguments]:
    """The recipe's values, then whatever stands on the command line."""
    choice, _ = HfArgumentParser(ExampleArguments).parse_args_into_dataclasses(return_remaining_strings=True)
    recipe = choice.recipe or ("demo" if choice.cohort is None else "paper")
    if recipe not in RECIPES:
        sys.exit(f"--recipe is one of {', '.join(RECIPES)}, not {recipe}")
    parser = HfArgumentParser((ExampleArguments, WsiTrainingArguments))
    parser.set_defaults(output_dir=f"runs/{recipe}", use_cpu=not torch.accelerator.is_available(), **COMMON)
    parser.set_defaults(**RECIPES[recipe])
    return parser.parse_args_into_dataclasses()


if __name__ == "__main__":
    main()
