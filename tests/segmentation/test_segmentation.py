"""Maps that nobody keeps."""

import gc
import subprocess
import sys
import tempfile

from wsi_hf import segment_slide

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
