"""The help text of `wsi-hf train`: options by group; those of transformers and of the launcher only when asked for."""

import argparse
import copy
import dataclasses

from transformers import HfArgumentParser

from wsi_hf.job.options import JobArguments
from wsi_hf.training.arguments import WsiTrainingArguments

JOB = ("output_dir", "config", "recipe", "resume_from_checkpoint", "seed", "use_cpu", "push_to_hub", "hub_model_id")
DATA = ("cohort", "slides", "labels", "validation_fraction", "max_lost_slides", "tissue")
MODEL = ("model", "filters", "depth", "smoothing", "guided_smoothing", "mpp", "init_from", "pretrain_steps")
TRAINING = (
    "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "warmup_steps",
    "lr_scheduler_type", "weight_decay", "bf16", "dataloader_num_workers", "logging_steps", "save_steps",
    "save_total_limit", "eval_strategy", "eval_steps", "load_best_model_at_end", "report_to",
)  # fmt: skip
LAUNCHER = """\
Options of `accelerate launch` are passed on to it, and start several processes:
  --num_processes N --multi_gpu --num_machines N --machine_rank I --main_process_ip ADDRESS --config_file FILE ...
  (`accelerate launch --help`). On a machine with several GPUs all of them train; on CPUs add --use_cpu True.
"""


def help_text(parser: HfArgumentParser, everything: bool = False) -> str:
    """Give the options by group: job, data, model, method, mapping, training; with `everything` the rest too."""
    shown: set[str] = {"help"}
    by_name = {
        action.dest: shown_as(action) for action in parser._actions if not action.option_strings[0].startswith("--no_")
    }
    formatter = argparse.HelpFormatter(parser.prog, max_help_position=36, width=118)
    formatter.add_text("Train on slides and their labels, judge the model, leave a folder that is ready for the Hub.")
    for title, names in groups().items():
        formatter.start_section(title)
        formatter.add_arguments([by_name[name] for name in names if name in by_name and name not in shown])
        shown |= set(names)
        formatter.end_section()
    if everything:
        formatter.start_section("all others, of transformers' TrainingArguments")
        formatter.add_arguments([action for name, action in by_name.items() if name not in shown])
        formatter.end_section()
    usage = "usage: wsi-hf train [--cohort slides.csv] [--output_dir runs/mine] ..."
    more = "" if everything else "--help-all shows the other options of transformers' TrainingArguments.\n"
    return f"{usage}\n\n{formatter.format_help()}\n{LAUNCHER}{more}"


def shown_as(action: argparse.Action) -> argparse.Action:
    """An option under its first name, with its default."""
    shown = copy.copy(action)
    shown.option_strings = action.option_strings[:1]
    shown.choices = None
    shown.metavar = {int: "N", float: "X"}.get(action.type, "...")  # type: ignore[call-overload]
    default = getattr(action.default, "value", action.default)
    if default not in (None, "", argparse.SUPPRESS):
        shown.help = f"{action.help} [{default}]"
    return shown


def groups() -> dict[str, list[str]]:
    """Names of options by group; what is new in the arguments of training or job finds its place by its name."""
    own = [name for name in WsiTrainingArguments.__annotations__ if name not in (*JOB, *DATA, *TRAINING)]
    own = [name for name in own if name not in ("remove_unused_columns", "ddp_find_unused_parameters")]
    mapping = [name for name in own if name.startswith(("map", "slides_per", "steps_per", "max_epochs", "cpu_threads"))]
    job = [field.name for field in dataclasses.fields(JobArguments) if field.name not in (*JOB, *DATA, *MODEL)]
    return {
        "job": [*JOB],
        "data": [*DATA],
        "model": [*MODEL],
        "method (the paper's, and steps beyond it)": [name for name in own if name not in mapping],
        "mapping": mapping,
        "training": [*TRAINING],
        "judging": job,
    }
