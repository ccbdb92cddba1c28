"""Maps that nobody keeps."""

import gc
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from wsi_hf import segment_slide
from wsi_hf.slides.replacing import part_of, remove_leftovers

KILLED = """
import os, signal, sys
from wsi_hf import WsiUNetConfig, WsiUNetForSegmentation, segment_slide
result = segment_slide(WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=2)), sys.argv[1], mpp=1.0, tissue=None)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_map_of_a_killed_process_is_removed_by_the_next(tmp_path, noise_slide, model, monkeypatch):
    slide = noise_slide(90, 60)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(slide.path)], check=False)
    (left,) = (tmp_path / "tmp").glob(".wsi_hf-map.*.part")
    result = segment_slide(model, slide, tissue=None)
    (own,) = (tmp_path / "tmp").glob(".wsi_hf-map.*.part")
    assert own != left
    del result
    gc.collect()
    assert not list((tmp_path / "tmp").iterdir())


def test_what_another_one_removes_meanwhile_is_no_error(tmp_path):
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            path = part_of(tmp_path / "map")
            path.mkdir()
            for name in range(20):
                (path / str(name)).touch()
            shutil.rmtree(path)

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            remove_leftovers(tmp_path, "map")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
