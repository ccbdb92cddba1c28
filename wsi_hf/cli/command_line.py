"""The command line as a whole: all commands, how much is said, and what becomes of errors."""

import logging
import sys

import click

from wsi_hf import __version__
from wsi_hf.cli.calibrate import calibrate
from wsi_hf.cli.evaluate import evaluate
from wsi_hf.cli.figures import figures
from wsi_hf.cli.info import info
from wsi_hf.cli.map import map_slides
from wsi_hf.cli.push import push
from wsi_hf.cli.segment import segment
from wsi_hf.cli.synthesize import synthesize
from wsi_hf.cli.train import train
from wsi_hf.cli.view import view
from wsi_hf.job.errors import in_words

logger = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.version_option(__version__, prog_name="wsi-hf")
@click.option("-q", "--quiet", is_flag=True, help="Say errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")
def commands(quiet: bool, verbose: bool) -> None:
    """Pixel-resolution segmentation of whole-slide images, trained from slide labels alone."""
    if quiet or verbose:
        logging.getLogger().setLevel(logging.INFO if verbose else logging.ERROR)


for command in (train, map_slides, calibrate, segment, view, info, evaluate, figures, push, synthesize):
    commands.add_command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if something failed (and was reported), 2 for wrong arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return commands.main(arguments, prog_name="wsi-hf", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        logger.error("interrupted; what was finished is kept, and the same command goes on from there")
        return 130
    except (RuntimeError, ValueError, OSError) as error:
        logger.error("%s", in_words(error))
        logger.info("where it failed", exc_info=True)
        return 1
