"""Any number of mappers share a round, come and go; who maps changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import TrainerCallback

from tests.mapping.test_mapper import mapper_of
from tests.training.conftest import assert_equal, make_trainer, weights
from tests.training.processes import wait_until
from wsi_hf.mapping import lease
from wsi_hf.mapping.joining import forget_dead
from wsi_hf.mapping.lease import Lease, Watch, write_once
from wsi_hf.mapping.pool import Mapped, Plan, RoundPool
from wsi_hf.sampling.map_store import MapEntry, MapStore, Round


def test_one_process_holds_a_lease_until_it_lets_go(tmp_path):
    held = Lease.take(tmp_path / "a", slide=3)
    assert json.loads((tmp_path / "a").read_text())["slide"] == 3
    assert Lease.take(tmp_path / "a", Watch()) is None
    held.release()
    assert Lease.take(tmp_path / "a") is not None


def test_the_lease_of_a_process_that_is_gone_falls_back(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    Lease.take(tmp_path / "a").release()
    text = json.dumps({**lease._myself(), "pid": gone.pid})
    (tmp_path / "a").write_text(text)
    assert Watch().gone(tmp_path / "a")
    (tmp_path / "a").write_text(json.dumps({**lease._myself(), "born": 1.0}))  # its number is another's now
    assert Lease.take(tmp_path / "a", Watch()) is not None


def test_leases_that_the_dead_left_are_removed_and_those_of_the_living_stay(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in ("mappers", "claims"):
        Lease.take(tmp_path / name / "living")
        (tmp_path / name / "dead").write_text(json.dumps({**lease._myself(), "pid": gone.pid}))
    forget_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["living", "living"]


def test_a_lease_of_another_machine_falls_back_when_it_is_silent(tmp_path):
    path, watch = tmp_path / "a", Watch(silence_s=0.2)
    path.write_text(json.dumps({"machine": "elsewhere", "pid": 1, "born": 0}))
    assert not watch.gone(path)
    time.sleep(0.15)
    os.utime(path)
    assert not watch.gone(path)
    time.sleep(0.25)
    assert watch.gone(path)


@pytest.mark.parametrize("links", [True, False])
def test_what_is_written_once_stays(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no hard links here")))
    write_once(tmp_path / "a", "first")
    write_once(tmp_path / "a", "second")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "first")]


def test_two_mappers_never_claim_the_same_slide(tmp_path):
    store = MapStore(tmp_path)
    first, second = RoundPool(store, 0, Watch()), RoundPool(store, 0, Watch())
    plan = first.plan(lambda: Plan({5: 0, 2: 0, 7: 0}, 1))
    assert second.plan(lambda: Plan({1: 0}, 9)) == plan
    (one, lease_one), (two, _), (three, _) = first.claim(plan), second.claim(plan), first.claim(plan)
    assert [one, two, three] == [5, 2, 7]
    assert second.claim(plan) is None
    entry = MapEntry("f", 0, 1.0, 0.0)
    first.done(5, Mapped(entry, "", "a", 1.0))
    lease_one.release()
    assert second.claim(plan) is None
    assert second.results(plan) is None
    for slide in (2, 7):
        second.done(slide, Mapped(entry, "", "b", 2.0))
    assert first.results(plan)[7] == Mapped(entry, "", "b", 2.0)
    first.publish(Round([entry]))
    second.publish(Round([entry, entry]))  # too late
    assert len(store.read(0).entries) == 1
    assert second.results(plan) == first.results(plan)  # whoever comes last still finds it


def test_what_a_dead_mapper_claimed_is_mapped_by_another(tmp_path, slides):
    mapper = mapper_of(tmp_path, slides)
    pool = RoundPool(mapper.store, 0, Watch())
    plan = pool.plan(lambda: mapper._plan(0, mapper.store.read(-1), 0.0))
    slide, held = pool.claim(plan)
    held.release()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "_mapping" / "claims" / f"0.{slide}").write_text(json.dumps({**lease._myself(), "pid": gone.pid}))
    mapper.map_round(0)
    assert mapper.store.read(0).entries[slide].round == 0


class ComeAndGo(TrainerCallback):
    """A mapper joins at the first step, is killed at the fourth, and another one joins then."""

    def __init__(self, run: Path):
        self.run, self.mappers = run, []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (1, 4):
            if self.mappers:
                wait_until(lambda: list((self.run / "_mapping" / "mappers").glob("*")))
                os.kill(self.mappers[0].pid, signal.SIGKILL)
            command = [sys.executable, "-m", "wsi_hf.cli", "map", str(self.run), "--device", "cpu", "--wait", "0"]
            self.mappers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))


def test_mappers_that_join_and_leave_mid_run_change_nothing(tmp_path, slides, reference):
    trainer, others = make_trainer(tmp_path, slides, mapping="pool"), ComeAndGo(tmp_path)
    trainer.add_callback(others)
    trainer.train()
    assert_equal(weights(trainer), reference)
    assert others.mappers[0].wait(300) == -signal.SIGKILL
    assert others.mappers[1].wait(300) == 0  # the training has ended


def test_the_training_ends_where_nobody_maps(tmp_path, slides, monkeypatch):
    from wsi_hf.mapping import joining
    from wsi_hf.sampling.map_store import MappingError

    monkeypatch.setattr(joining, "ARRIVAL_S", 0.5)
    with pytest.raises(MappingError, match="wsi-hf map"):
        make_trainer(tmp_path, slides, mapping="pool").train()
