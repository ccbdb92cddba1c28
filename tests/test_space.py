"""The Space starts, and answers on a slide as the pipeline does."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from wsi_hf import WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation

APP = Path(__file__).resolve().parents[1] / "spaces" / "wsi-segmentation" / "app.py"


@pytest.fixture
def space(tmp_path):
    """The app as a process of its own, with a tiny model; gives its client."""
    client = pytest.importorskip("gradio_client")
    torch.manual_seed(0)
    WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=1)).save_pretrained(tmp_path / "model")
    WsiImageProcessor(mpp=1.0).save_pretrained(tmp_path / "model")
    port = free_port()
    environment = os.environ | {
        "WSI_MODEL": str(tmp_path / "model"), "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_NAME": "127.0.0.1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    app = subprocess.Popen([sys.executable, str(APP)], env=environment, cwd=tmp_path)
    try:
        wait_for(port, app)
        yield client.Client(f"http://127.0.0.1:{port}", verbose=False)
    finally:
        app.terminate()
        app.wait(60)


def wait_for(port: int, app: subprocess.Popen) -> None:
    for _ in range(600):
        assert app.poll() is None, "the app ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.5)
    raise TimeoutError(port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_space_answers_on_a_slide_and_tells_what_is_wrong_with_a_file(space, synthetic_slide, tmp_path):
    client = pytest.importorskip("gradio_client")
    verdict, picture, files = space.predict(client.handle_file(synthetic_slide), None, api_name="/segment")
    assert verdict.startswith(("## benign", "## malignant"))
    assert Path(picture if isinstance(picture, str) else picture["path"]).stat().st_size > 1000
    assert any(str(file).endswith(".geojson") for file in files)
    no_slide = tmp_path / "letter.txt"
    no_slide.write_text("not a slide")
    with pytest.raises(Exception, match=r"letter"):
        space.predict(client.handle_file(no_slide), None, api_name="/segment")
