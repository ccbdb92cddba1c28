"""Ctrl-C and SIGTERM end a training tidily: the step is finished and a checkpoint saved."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from transformers import TrainerCallback

logger = logging.getLogger(__name__)


class Interruption(TrainerCallback):
    """Within `with interruption:` a first signal stops the training after its step, a second one at once.

    Before the first step, while tissue is being found, there is nothing to save: the first signal stops at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._stepping = False
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a data worker inherits this; when it ends is the trainer's to decide
        if not self._stepping:
            raise KeyboardInterrupt("stopped before the first step")
        if self.asked:
            raise KeyboardInterrupt("stopped at once")
        self.asked = True
        logger.warning("Stopping after this step and saving a checkpoint; once more to stop at once.")

    def on_step_begin(self, args, state, control, **kwargs):
        self._stepping = True

    def on_step_end(self, args, state, control, **kwargs):
        if self.asked:
            control.should_save = control.should_training_stop = True
