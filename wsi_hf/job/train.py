"""A job from its options to its folder: train, save, judge, draw, push; errors are said once."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed

from wsi_hf.calibration.calibrating import calibrate_trained
from wsi_hf.hub.push import push_run
from wsi_hf.job.errors import in_words
from wsi_hf.job.network import network_of
from wsi_hf.job.options import JobArguments, arguments_of, job_parser, parse, write_run
from wsi_hf.job.slides import Slides, slides_of
from wsi_hf.job.summary import next_lines, summary_lines
from wsi_hf.reports.cohort import evaluate_cohort
from wsi_hf.reports.run import plot_run
from wsi_hf.training.arguments import WsiTrainingArguments
from wsi_hf.training.pretraining import pretrain_first
from wsi_hf.training.trainer import WsiTrainer

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run a job in this process; 0 if all went well, 1 if something failed and was said, 130 when interrupted."""
    try:
        parser = job_parser()
        namespace, unknown = parse(parser, arguments)
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        job, args = arguments_of(namespace)
        run(job, args, f"{namespace.recipe} ({namespace.why})", RunWriter(namespace))
    except KeyboardInterrupt as stop:
        print(
            f"{stop or 'interrupted'}. To go on: the same command with --resume_from_checkpoint True", file=sys.stderr
        )
        return 130
    except (RuntimeError, ValueError, OSError) as error:
        logger.debug("where it failed", exc_info=True)
        print(f"wsi-hf train: {in_words(error)}", file=sys.stderr)
        return 1
    return 0


def run(job: JobArguments, args: WsiTrainingArguments, recipe: str, *callbacks: TrainerCallback) -> None:
    """Do the whole job; examples/train_camelyon16.py shows the same in steps."""
    first = args.process_index == 0
    logging.basicConfig(level=logging.INFO if first else logging.WARNING)
    set_seed(args.seed)
    with args.main_process_first(desc="synthetic cohort"):
        slides = slides_of(job, args.seed)
    model, image_processor = network_of(job, args)
    if first:
        print("\n".join(summary_lines(slides, model, args, recipe)), flush=True)
    if job.pretrain_steps and not (job.init_from or args.resume_from_checkpoint):
        print(pretrain_first(model, args, slides.train, image_processor, job.pretrain_steps))
    trainer = WsiTrainer(
        model, args, slides.train, slides.watched, processing_class=image_processor, callbacks=list(callbacks)
    )
    train(trainer)
    if first:
        metrics = finish(trainer, slides, job)
        print(json.dumps(metrics, indent=1))
        print("\n".join(next_lines(Path(str(args.output_dir)), slides)))


def train(trainer: WsiTrainer) -> None:
    """Train to the end, save the model, and let go of the other processes."""
    resume = trainer.args.resume_from_checkpoint
    trainer.train(resume_from_checkpoint=True if resume == "True" else resume)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()  # the threads of a process group may abort a process that exits with them


def finish(trainer: WsiTrainer, slides: Slides, job: JobArguments) -> dict[str, Any]:
    """Judge the trained model, draw its course, push it if it is to be pushed; give what metrics.json holds."""
    args, image_processor = trainer.args, trainer.image_processor
    out, (split, judged), metrics = Path(str(args.output_dir)), slides.judged, {}
    print("\n".join(calibrate_trained(trainer.model, image_processor, slides.validation, out)))
    if split:
        rules = job.detection_radius_um, job.include_itc
        try:
            metrics = evaluate_cohort(trainer.model, judged, out, image_processor, *rules)
        except (RuntimeError, ValueError, OSError) as error:
            raise RuntimeError(f"the model is trained and saved in {out}, but was not judged: {error}") from error
    plot_run(out, trainer.state.log_history, slides.train, args.patch_size, image_processor.mpp)
    if args.push_to_hub:
        pushed: Any = push_run(out, trainer.hub_model_id, revision=args.hub_revision, token=args.hub_token)
        print(pushed.commit_url)
    return metrics


class RunWriter(TrainerCallback):
    """Writes run.yaml once the training may begin, so that a refused one changes nothing."""

    def __init__(self, namespace: Any):
        self.namespace = namespace

    def on_train_begin(self, args, state, control, **kwargs):
        if args.process_index == 0:
            write_run(self.namespace, args.output_dir)
