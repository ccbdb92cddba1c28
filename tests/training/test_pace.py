import os
import signal
import threading

from wsi_hf.mapping.child import MappingChild

from .conftest import make_trainer


def test_what_is_waited_for_maps_is_said_of_the_round_that_waited(tmp_path, slides, monkeypatch):
    trainer = make_trainer(tmp_path, slides, mapping="child", logging_steps=1)
    launch = MappingChild.launch

    def launch_late(child):  # the first maps are three seconds late
        launch(child)
        os.kill(child.process.pid, signal.SIGSTOP)
        threading.Timer(3, os.kill, (child.process.pid, signal.SIGCONT)).start()

    monkeypatch.setattr(MappingChild, "launch", launch_late)
    trainer.train()
    waited = {entry["step"]: entry["map_wait_s"] for entry in trainer.state.log_history if "map_wait_s" in entry}
    # the round that draws from the first maps begins after the first one; accelerate fetches its first batch ahead
    felt = trainer.args.steps_per_round + 1
    assert sum(seconds for step, seconds in waited.items() if step <= felt) > 1.5
