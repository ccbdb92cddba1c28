import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from transformers import TrainerControl

from wsi_hf.training import interruption as module
from wsi_hf.training.interruption import Abandoned, Interruption
from wsi_hf.training.workers import in_own_groups


class Alone:
    world_size = 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_a_signal_stops_at_once_then_after_the_step(number):
    control = TrainerControl()
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt, match="before the first step"):
            os.kill(os.getpid(), number)
        interruption.on_step_begin(None, None, control)
        os.kill(os.getpid(), number)
        interruption.on_step_end(Alone(), None, control)
        assert control.should_save
        assert control.should_training_stop
        with pytest.raises(KeyboardInterrupt, match="at once"):
            os.kill(os.getpid(), number)


def test_what_waits_for_maps_is_abandoned_after_a_signal(monkeypatch):
    monkeypatch.setattr(module, "GRACE_S", 0.1)
    with Interruption() as interruption:
        interruption.on_step_begin(None, None, TrainerControl())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)  # a step is not abandoned
        with pytest.raises(Abandoned), interruption.abandonable(evaluation=True):
            time.sleep(30)
        assert interruption.evaluation_due


def test_the_launchers_death_counts_as_a_signal(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr(os, "getppid", iter([100, 100, 1, 1]).__next__)
    with pytest.raises(KeyboardInterrupt), Interruption():
        time.sleep(30)


def _work(answers) -> None:
    answers.put((os.getpgid(0) == os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    time.sleep(60)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no process groups")
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_data_worker_leaves_the_group_and_can_be_ended(method):
    workers = in_own_groups(method)
    answers = workers.Queue()
    worker = workers.Process(target=_work, args=(answers,), daemon=True)
    worker.start()
    own, held = answers.get(timeout=120)
    assert own
    assert not held & {signal.SIGINT, signal.SIGTERM}
    os.kill(worker.pid, signal.SIGINT)
    time.sleep(0.2)
    assert worker.is_alive()
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == -signal.SIGTERM


def _keep(pids) -> None:
    worker = in_own_groups("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    pids.put(worker.pid)
    time.sleep(60)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks into /proc")
def test_a_data_worker_dies_with_its_trainer():
    fork = multiprocessing.get_context("fork")
    pids = fork.Queue()
    trainer = fork.Process(target=_keep, args=(pids,))
    trainer.start()
    pid = pids.get(timeout=30)
    trainer.kill()
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and open(f"/proc/{pid}/stat").read().split()[2] != "Z":  # noqa: SIM115
        assert time.monotonic() < deadline
        time.sleep(0.05)


LATE = """
import os, subprocess, sys, time
os.environ.setdefault("LAUNCHER", str(os.getpid()))
if len(sys.argv) == 2:  # the launcher, which is killed before its process has begun to train
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "late"])
    os._exit(1)
while os.getppid() == int(os.environ["LAUNCHER"]):
    time.sleep(0.05)
from wsi_hf.training.interruption import Interruption
end = "trained on"
try:
    with Interruption():
        time.sleep(20)
except KeyboardInterrupt:
    end = "stopped"
open(sys.argv[1], "w").write(f"{end} {os.getppid()}")
"""


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks into /proc")
def test_a_launcher_that_died_while_its_processes_started_is_missed(tmp_path):
    script, answer = tmp_path / "late.py", tmp_path / "answer"
    script.write_text(LATE)
    subprocess.run([sys.executable, script, answer], env={**os.environ, "TORCHELASTIC_RUN_ID": "none"}, check=False)
    deadline = time.monotonic() + 120
    while not (answer.exists() and answer.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    end, parent = answer.read_text().rsplit(" ", 1)
    if int(parent) != 1:
        pytest.skip("another process than the first one takes orphans in")
    assert end == "stopped"
