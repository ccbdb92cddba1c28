"""The network as torch.export and ONNX programs: the same numbers at sizes that were not those of the export."""

import pytest
import torch
from torch import nn

from wsi_hf import WsiUNetConfig, WsiUNetForSegmentation

SIZES = {"pixel_values": {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}}
EXAMPLE, OTHER = (2, 3, 32, 32), (1, 3, 24, 48)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=1)).eval()


@torch.no_grad()
def test_torch_export_with_sizes_of_every_kind(model):
    program = torch.export.export(model, (torch.rand(EXAMPLE),), dynamic_shapes=SIZES).module()
    pixels = torch.rand(OTHER)
    here, there = model(pixels), program(pixels)
    assert torch.equal(there.logits, here.logits)
    assert torch.equal(there.slide_logits, here.slide_logits)


@torch.no_grad()
def test_onnx_with_sizes_of_every_kind(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    names = {"input_names": ["pixel_values"], "output_names": ["logits", "slide_logits"]}
    torch.onnx.export(
        model, (torch.rand(EXAMPLE),), tmp_path / "model.onnx", dynamo=True, dynamic_shapes=SIZES, **names
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = torch.rand(OTHER)
    logits, slide_logits = session.run(None, {"pixel_values": pixels.numpy()})
    here = model(pixels)
    torch.testing.assert_close(torch.from_numpy(logits), here.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(slide_logits), here.slide_logits, rtol=0, atol=1e-5)
