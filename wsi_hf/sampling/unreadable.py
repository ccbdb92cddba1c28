"""Slides that fail to read during a training: tried again first, for a network drive may only have hiccuped."""

import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from wsi_hf.slides.slide import SlideError

logger = logging.getLogger(__name__)

RETRY_PAUSES_S = (0.5, 2.0)

Result = TypeVar("Result")


def retried(read: Callable[[], Result], slide_id: str, patient: bool = True) -> Result:
    """The result of `read`, which is called once more after each pause as long as it raises SlideError.

    Args:
        patient: False calls it once.

    Raises:
        SlideError: of the last call.
    """
    for pause in RETRY_PAUSES_S if patient else ():
        try:
            return read()
        except SlideError as error:
            logger.warning("%s cannot be read and is tried again in %g s: %s", slide_id, pause, error)
            time.sleep(pause)
    return read()


def file_stamp(path: str | os.PathLike) -> str:
    """What changes when a file is copied again: time of change and size; empty where there is no file."""
    try:
        facts = os.stat(path)
    except OSError:
        return ""
    return f"{facts.st_mtime_ns} {facts.st_size}"
