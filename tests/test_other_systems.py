"""What other systems lack is not needed: Windows has neither `resource` nor `fcntl`."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]

SCRIPT = """
import sys
import filelock, psutil, torch, transformers  # they ask which system this is
sys.modules["resource"] = sys.modules["fcntl"] = None  # an import raises ImportError
from wsi_hf import WsiUNetConfig, WsiUNetForSegmentation, segment_slide
import wsi_hf.training.trainer
result = segment_slide(WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=1)), sys.argv[1], tile_size=None)
print("segmented", result.probabilities.shape)
"""


def test_inference_runs_without_resource_and_fcntl(synthetic_slide):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(synthetic_slide)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert "segmented" in done.stdout, done.stderr
