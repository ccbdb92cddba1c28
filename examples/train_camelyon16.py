"""Train a pixel-resolution segmentation model from slide labels alone, evaluate it, leave a Hub-ready folder.

    accelerate launch examples/train_camelyon16.py                                   # synthetic cohort, about 4 minutes
    accelerate launch examples/train_camelyon16.py --cohort CAMELYON16 --recipe paper  # the paper's setting
    accelerate launch examples/train_camelyon16.py --cohort MOSAIC --recipe mosaic   # real tissue on two CPU cores
    accelerate launch examples/train_camelyon16.py --cohort MOSAIC --recipe mosaic-smooth --init_from runs/mosaic

What `wsi-hf train` does, in Python, and with the same options. Without --cohort it writes a synthetic cohort first and
takes the recipe "demo", which is smaller than the paper's; with one of your own slides it takes the recipe "own". Any
field of WsiTrainingArguments on the command line goes before the recipe.
"""

import json
import logging
import sys
from pathlib import Path

from transformers import set_seed

from wsi_hf import WsiTrainer
from wsi_hf.calibration.calibrating import calibrate_trained
from wsi_hf.hub.push import push_run
from wsi_hf.job.network import network_of
from wsi_hf.job.options import parse_arguments
from wsi_hf.job.slides import slides_of
from wsi_hf.job.summary import next_lines
from wsi_hf.reports.cohort import evaluate_cohort
from wsi_hf.reports.run import plot_run
from wsi_hf.training.pretraining import pretrain_first


def main() -> None:
    job, args = parse_arguments()  # the recipe's values, then whatever stands on the command line
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    set_seed(args.seed)
    with args.main_process_first(desc="synthetic cohort"):
        slides = slides_of(job, args.seed)  # a datasets.Dataset each: train, validation, test
    model, image_processor = network_of(job, args)  # WsiUNetForSegmentation(WsiUNetConfig(...)), WsiImageProcessor(...)
    if job.pretrain_steps and not (
        job.init_from or args.resume_from_checkpoint
    ):  # as an auto-encoder (paper, section 6)
        print(pretrain_first(model, args, slides.train, image_processor, job.pretrain_steps))

    trainer = WsiTrainer(model, args, slides.train, slides.watched, processing_class=image_processor)
    resume = args.resume_from_checkpoint
    try:
        trainer.train(resume_from_checkpoint=True if resume == "True" else resume)
    except KeyboardInterrupt as stop:
        again = " with --resume_from_checkpoint True" if resume or trainer.state.global_step else ""
        sys.exit(f"{stop}. To go on: the same command{again}")
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()  # the threads of a process group may abort a process that exits with them
    if args.process_index:
        return

    out, (split, judged) = Path(args.output_dir), slides.judged
    print("\n".join(calibrate_trained(model, image_processor, slides.validation, out)))  # by the slides' labels alone
    if split:
        rules = job.detection_radius_um, job.include_itc
        print(json.dumps(evaluate_cohort(model, judged, out, image_processor, *rules), indent=1))
    plot_run(out, trainer.state.log_history, slides.train, args.patch_size, image_processor.mpp)
    if args.push_to_hub:
        print(push_run(out, trainer.hub_model_id, revision=args.hub_revision, token=args.hub_token).commit_url)
    print("\n".join(next_lines(out, slides)))


if __name__ == "__main__":
    main()
