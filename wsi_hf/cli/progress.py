"""Whether progress bars, with their rate, are shown: on a terminal, and not with --quiet."""

import logging
import sys


def progress_wanted() -> bool:
    """Progress goes to stderr; results go to stdout."""
    return sys.stderr.isatty() and logging.getLogger().isEnabledFor(logging.WARNING)
