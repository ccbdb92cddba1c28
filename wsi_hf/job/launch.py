"""How a job is started: in this process, or by `accelerate launch` in several."""

import logging
import os
import sys

import torch
from accelerate.commands.config.config_args import default_json_config_file, default_yaml_config_file
from accelerate.commands.launch import launch_command, launch_command_parser

from wsi_hf.job.help import help_text
from wsi_hf.job.options import job_parser, parse
from wsi_hf.job.train import main

LAUNCHED = ("RANK", "LOCAL_RANK", "ACCELERATE_MIXED_PRECISION")
"""What a launcher puts into the environment of the processes that it starts."""

CONFIGURATIONS = (default_json_config_file, default_yaml_config_file)
QUIET = {"num_machines": "1", "mixed_precision": "no", "dynamo_backend": "no"}
"""Accelerate's defaults, which it warns of unless they are given; the job chooses its precision itself."""


def start(arguments: list[str]) -> int:
    """Start a job from all its arguments, those of `accelerate launch` among them; give its exit code.

    Raises:
        ValueError, OSError: something is wrong with an option or the cohort; seen before any process is started.
    """
    parser = job_parser()
    if {"-h", "--help", "--help-all", "--help_all"} & set(arguments):
        print(help_text(parser, everything=not {"-h", "--help"} & set(arguments)))
        return 0
    if any(name in os.environ for name in LAUNCHED):
        return main(arguments)
    namespace, others = parse(parser, arguments)
    options = launch_options(others)
    if options or (several_processes_by_default() and not namespace.use_cpu):
        return launch(options, without(arguments, others))
    return main(arguments)


def launch(options: list[str], arguments: list[str]) -> int:
    """Run the job under `accelerate launch`. Its processes say what went wrong; the launcher does not say it again."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    given = {option.replace("-", "_").lstrip("_") for option in options}
    configured = any(os.path.isfile(path) for path in CONFIGURATIONS) or "config_file" in given
    filled = (
        [] if configured else [w for name, value in QUIET.items() if name not in given for w in (f"--{name}", value)]
    )
    command = launch_command_parser().parse_args(["--quiet", *filled, *options, "-m", "wsi_hf.job", *arguments])
    try:
        launch_command(command)
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # of the launcher: what it raises differs between backends
        if type(error).__name__ not in ("ChildFailedError", "SignalException"):
            raise
        return 1
    return 0


def launch_options(others: list[str]) -> list[str]:
    """Check that the launcher knows what the job does not.

    Raises:
        ValueError: it does not; the message names the option.
    """
    known = {name for action in launch_command_parser()._actions for name in action.option_strings}
    for word in others:
        if word.startswith("-") and word.split("=")[0] not in known:
            raise ValueError(
                f"there is no option {word}: neither of wsi-hf train (--help-all) nor of accelerate launch"
            )
    if others and not others[0].startswith("-"):
        raise ValueError(f"{others[0]} belongs to no option; wsi-hf train has options only (--help)")
    return others


def several_processes_by_default() -> bool:
    """Whether `accelerate launch` would start more than one process, or is configured to do something of its own."""
    return any(os.path.isfile(path) for path in CONFIGURATIONS) or torch.cuda.device_count() > 1


def without(words: list[str], others: list[str]) -> list[str]:
    """The words that are left when those of `others`, in the order in which they stand, are taken out."""
    left, taken = [], list(others)
    for word in words:
        if taken and word == taken[0]:
            taken.pop(0)
        else:
            left.append(word)
    return left


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
