import multiprocessing
import os
import signal

import pytest
from transformers import TrainerControl

from wsi_hf.training.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_a_signal_stops_at_once_then_after_the_step(number):
    control = TrainerControl()
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt, match="before the first step"):
            os.kill(os.getpid(), number)
        interruption.on_step_begin(None, None, control)
        os.kill(os.getpid(), number)
        interruption.on_step_end(None, None, control)
        assert control.should_save
        assert control.should_training_stop
        with pytest.raises(KeyboardInterrupt, match="at once"):
            os.kill(os.getpid(), number)


def _signalled(number: int, answers) -> None:
    os.kill(os.getpid(), number)
    answers.put("at work")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_data_worker_leaves_signals_to_the_trainer(number):
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    with Interruption():  # before the first step, when data workers start
        worker = fork.Process(target=_signalled, args=(number, answers))
        worker.start()
    assert answers.get(timeout=30) == "at work"
    worker.join(30)
