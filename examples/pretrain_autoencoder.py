"""Pre-train the U-Net as an auto-encoder on unlabelled patches of a cohort (paper, section 6).

    accelerate launch examples/pretrain_autoencoder.py --output_dir runs/autoencoder      # synthetic cohort
    accelerate launch examples/pretrain_autoencoder.py --cohort CAMELYON16 --filters 32 --depth 4 --patch_size 256

    accelerate launch examples/train_camelyon16.py --init_from runs/autoencoder           # then start from it

The network and its resolution must be those of the training that starts from it. Patches are drawn uniformly over the
tissue of the training slides; neither labels nor annotations are read. Any field of WsiTrainingArguments can be given.
"""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser, set_seed

from wsi_hf import WsiImageProcessor, WsiTrainingArguments, WsiUNetConfig, WsiUNetForReconstruction
from wsi_hf.cohorts.camelyon16 import load_cohort, split_validation
from wsi_hf.cohorts.synthetic import synthesize_cohort
from wsi_hf.reports.contact_sheet import plot_contact_sheet
from wsi_hf.training.pretraining import WsiPretrainer

# Small enough for two CPU cores and the recipe "demo" of train_camelyon16.py.
DEMO = {
    "output_dir": "runs/autoencoder", "per_device_train_batch_size": 128, "max_steps": 300, "learning_rate": 5e-3,
    "patch_size": 32, "shuffle_buffer": 256, "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "logging_steps": 25,
    "save_steps": 100, "save_total_limit": 2, "report_to": "none",
    "augment_stain": 0.3, "augment_colour": 0.0, "augment_elastic_px": 0.0,
}  # fmt: skip


@dataclass
class ExampleArguments:
    """What is trained on what."""

    cohort: str | None = field(default=None, metadata={"help": "CAMELYON16 folder, or a CSV table of your own slides"})
    filters: int = field(default=8, metadata={"help": "channels of the U-Net's first stage (paper: 32)"})
    depth: int = field(default=2, metadata={"help": "down-samplings of the U-Net (not in the paper)"})
    mpp: float = field(default=1.0, metadata={"help": "resolution of the model, um a pixel (paper: 1)"})
    validation_fraction: float = field(default=0.125, metadata={"help": "share of the training slides set aside"})


def main() -> None:
    parser = HfArgumentParser((ExampleArguments, WsiTrainingArguments))
    parser.set_defaults(use_cpu=not torch.accelerator.is_available(), **DEMO)
    example, args = parser.parse_args_into_dataclasses()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    set_seed(args.seed)
    folder = example.cohort
    if folder is None:
        with args.main_process_first(desc="synthetic cohort"):
            folder = synthesize_cohort(Path("cohorts") / f"synthetic-{args.seed}", seed=args.seed)
    cohort = split_validation(load_cohort(folder), example.validation_fraction, seed=args.seed)
    train, validation = (cohort.filter(lambda row, s=s: row["split"] == s) for s in ("train", "validation"))

    model = WsiUNetForReconstruction(WsiUNetConfig(filters=example.filters, depth=example.depth, mpp=example.mpp))
    trainer = WsiPretrainer(model, args, train, validation, processing_class=WsiImageProcessor(mpp=example.mpp))
    try:
        resume = args.resume_from_checkpoint
        trainer.train(resume_from_checkpoint=True if resume == "True" else resume)
    except KeyboardInterrupt as stop:
        again = " with --resume_from_checkpoint True" if resume or trainer.state.global_step else ""
        sys.exit(f"{stop}. To go on: the same command{again}")
    metrics = trainer.evaluate()
    trainer.save_model()
    trainer.save_metrics("eval", metrics)
    if args.process_index == 0:
        originals, reconstructed = trainer.reconstruct(n=10)
        rows = {"tissue": originals, "reconstructed": reconstructed}
        plot_contact_sheet(rows, Path(args.output_dir) / "reconstructions.png", "Held-out slides")
        print(f"\nMean squared error on held-out slides: {metrics['eval_loss']:.3f} (normalised colours)")
        print("Next, train from it:")
        print(f"    accelerate launch examples/train_camelyon16.py --init_from {args.output_dir}")


if __name__ == "__main__":
    main()
