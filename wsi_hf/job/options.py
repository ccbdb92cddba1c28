"""What a job is told: recipe, then run.yaml, then the command line; and the run.yaml that repeats it."""

import dataclasses
import difflib
from argparse import Namespace
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import HfArgumentParser

from wsi_hf.job.recipes import COMMON, OWN, RECIPES, choose_recipe, recipe_values
from wsi_hf.job.slides import look_at
from wsi_hf.slides.replacing import write_text
from wsi_hf.training.arguments import WsiTrainingArguments

RUN = "run.yaml"


@dataclass
class JobArguments:
    """What is trained on what, and how it is judged."""

    cohort: str | None = field(
        default=None,
        metadata={
            "help": "a CSV table of your own slides, a CAMELYON16 folder, or (with slides) a manifest on the Hub; "
            "without one, synthetic slides are written first"
        },
    )
    slides: str | None = field(default=None, metadata={"help": "folder of the slides of a manifest on the Hub"})
    labels: str | None = field(
        default=None,
        metadata={"help": "CSV table of slides and labels that goes before a CAMELYON16 folder's own, as CAMELYON+'s"},
    )
    validation_fraction: float = field(
        default=0.125,
        metadata={
            "help": "share of the training slides set aside where the cohort sets none aside; at least four of each "
            "class where there are six, for the calibration needs them"
        },
    )
    recipe: str | None = field(
        default=None, metadata={"help": f"one of {', '.join([*RECIPES, OWN])}; chosen by slides and machine"}
    )
    model: str | None = field(
        default=None,
        metadata={"help": "network or encoder to train, a folder or a name on the Hub; else a new U-Net, the paper's"},
    )
    filters: int = field(default=32, metadata={"help": "channels of the U-Net's first stage (paper: 32)"})
    depth: int = field(default=4, metadata={"help": "down-samplings of the U-Net (not in the paper)"})
    smoothing: int = field(
        default=0, metadata={"help": "logits are averaged over this many pixels to each side (paper: 0)"}
    )
    guided_smoothing: bool = field(
        default=False, metadata={"help": "these averages follow the edges of the tissue: a guided filter"}
    )
    mpp: float = field(default=1.0, metadata={"help": "resolution of the model, um a pixel (paper: 1)"})
    init_from: str | None = field(default=None, metadata={"help": "checkpoint to start from, such as an auto-encoder"})
    pretrain_steps: int = field(
        default=0,
        metadata={"help": "without init_from: steps as an auto-encoder on the same slides first (paper, section 6)"},
    )
    detection_radius_um: float = field(default=187.0, metadata={"help": "no two detections lie nearer (FROC)"})
    include_itc: bool = field(
        default=False, metadata={"help": "FROC counts lesions under 275 um too (not the challenge)"}
    )


def job_parser() -> HfArgumentParser:
    """A parser of everything that a job can be told; options are not abbreviated."""
    kinds: Any = (JobArguments, WsiTrainingArguments)
    parser = HfArgumentParser(kinds, prog="wsi-hf train", allow_abbrev=False)
    parser.add_argument("--config", help="YAML file of any of these options, such as a run's run.yaml")
    return parser


def parse_arguments(arguments: list[str] | None = None) -> tuple[JobArguments, WsiTrainingArguments]:
    """Give the options of a job; arguments that are unknown end the program as argparse does.

    Args:
        arguments: those of the command line by default.
    """
    parser = job_parser()
    namespace, unknown = parse(parser, arguments)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments_of(namespace)


def parse(parser: HfArgumentParser, arguments: list[str] | None) -> tuple[Namespace, list[str]]:
    """Give every option's value, "why" the recipe was chosen, and the arguments that are none of the job's.

    Raises:
        ValueError: the recipe or an option of the YAML file does not exist, or the cohort cannot be read.
    """
    config = read_config(parser, parser.parse_known_args(arguments)[0].config)
    parser.set_defaults(**config)
    first = parser.parse_known_args(arguments)[0]
    recipe, why, seen = first.recipe, "as asked", None
    if recipe is None or recipe == OWN:
        seen = look_at(
            first.cohort, first.slides, first.labels, gpu=torch.accelerator.is_available() and not first.use_cpu
        )
        recipe, why = (recipe, why) if recipe else choose_recipe(seen)
    if recipe not in (*RECIPES, OWN):
        raise ValueError(f"recipe is one of {', '.join([*RECIPES, OWN])}, not {recipe}")
    parser.set_defaults(output_dir=f"runs/{recipe}", use_cpu=not torch.accelerator.is_available(), **COMMON)
    parser.set_defaults(**recipe_values(recipe, seen, bool(first.model)) | config | {"recipe": recipe})
    namespace, unknown = parser.parse_known_args(arguments)
    namespace.why = why
    return namespace, unknown


def arguments_of(namespace: Namespace) -> tuple[JobArguments, WsiTrainingArguments]:
    """The values as dataclasses, which check them. With mapping 'ranks' this is where a mapping rank stays."""
    job, args = (
        {f.name: getattr(namespace, f.name) for f in dataclasses.fields(kind) if f.init}
        for kind in (JobArguments, WsiTrainingArguments)
    )
    return JobArguments(**job), WsiTrainingArguments(**args)


def read_config(parser: HfArgumentParser, path: str | None) -> dict[str, Any]:
    """The options of a YAML file; of a file that is none, or of an option that is none, a ValueError."""
    if path is None:
        return {}
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    known = sorted(action.dest for action in parser._actions if action.dest not in ("help", "config"))
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no options; a line is `name: value`")
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise ValueError(f"{path}: there is no option {name}" + (f"; is {near[0]} meant?" if near else ""))
    return values


def write_run(namespace: Namespace, folder: str | Path) -> None:
    """Write run.yaml: every option, so that `--config` repeats the run."""
    values = {name: value for name, value in vars(namespace).items() if name not in ("config", "why", "hub_token")}
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in sorted(values.items())}
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    write_text(Path(folder) / RUN, f"# Repeat with: wsi-hf train --config {RUN} --output_dir ANOTHER_FOLDER\n{text}")
