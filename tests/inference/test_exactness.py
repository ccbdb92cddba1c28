"""The stitched map is one forward pass over the whole slide, whatever the tiles."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from wsi_hf import WsiImageProcessor
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.piecewise import fold_batch_norm, halos
from wsi_hf.segmentation.segmentation import segment_slide, stream_tiles

from .conftest import noise, stitched, tiny_model, whole_slide_logits, write_slide

MODELS = {depth: tiny_model(depth) for depth in (2, 3, 4, 5)}
PROCESSOR = WsiImageProcessor()


@settings(max_examples=15, deadline=None)
@given(
    depth=st.sampled_from([2, 3, 4, 5]),
    width=st.integers(1, 250),
    height=st.integers(1, 200),
    tile_size=st.integers(1, 400),
    batch_size=st.integers(1, 3),
    piece=st.sampled_from([4, 256, 900, 4096, None]),
)
def test_tiles_join_without_a_seam(depth, width, height, tile_size, batch_size, piece):
    tile_size = max(tile_size, max(width, height) // 6)  # so that there are not thousands
    network = PixelNetwork(MODELS[depth])
    network._unet.piece = piece if max(width, height) < 100 or piece != 4 else 256
    with TemporaryDirectory() as folder:
        slide = write_slide(Path(folder) / "slide.png", noise(height, width))
        whole = whole_slide_logits(MODELS[depth], slide, PROCESSOR)
        tiles = stream_tiles(network, slide, tissue=None, tile_size=tile_size, batch_size=batch_size)
        difference = (stitched(tiles, (width, height)) - whole).abs().max()
    assert difference <= 1e-4
    assert whole.std() > 0.1 or width * height < 500  # or it would show nothing


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(("radius", "tile_size"), [(5, 64), (8, 40), (21, 64)])
def test_tiles_of_a_smoothing_network_join_too(noise_slide, radius, tile_size, guided):
    slide, model = noise_slide(150, 90), tiny_model(3, smoothing=radius, guided_smoothing=guided)
    whole = whole_slide_logits(model, slide, PROCESSOR)
    tiles = stream_tiles(model, slide, tissue=None, tile_size=tile_size)
    assert (stitched(tiles, (150, 90)) - whole).abs().max() <= 1e-4
    rough = tiny_model(3)
    rough.load_state_dict(model.state_dict())
    assert (whole_slide_logits(rough, slide, PROCESSOR) - whole).abs().max() > 0.01


def test_a_tile_off_the_alignment_would_not_join(noise_slide):
    slide, model = noise_slide(200, 100), MODELS[3]
    whole = whole_slide_logits(model, slide, PROCESSOR)
    for corner, joins in ((64, True), (60, False)):
        margin = model.config.margin
        pixels = slide.read_region_px((corner - margin, -margin), (64 + 2 * margin, 64 + 2 * margin), 1.0)
        logits = PixelNetwork(model)(torch.from_numpy(pixels.copy())[None])[0]
        difference = (logits - whole[:, :64, corner : corner + 64]).abs().max()
        assert difference <= 1e-4 if joins else difference > 0.01


def test_a_tile_whose_size_is_off_the_alignment_is_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        PixelNetwork(MODELS[3])(torch.zeros(1, 48 + 60 + 48, 48 + 64 + 48, 3, dtype=torch.uint8))


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 7])
def test_the_config_s_margin_holds_the_reach(depth):
    assert halos(depth)[1] <= 6 * 2**depth


def test_folded_batch_norm_changes_nothing(model):
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected, folded = model(x).logits, fold_batch_norm(model)(x).logits
    assert (folded - expected).abs().max() < 1e-5
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fold_batch_norm(model).modules())


def test_the_model_is_left_as_it_was(model, noise_slide):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    list(stream_tiles(model, noise_slide(64, 64), tissue=None))
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    model.eval()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_same_inputs_give_the_same_bits(model, noise_slide):
    slide = noise_slide(150, 90)
    first, second = ([t.logits for t in stream_tiles(model, slide, tissue=None, tile_size=64)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.15), (torch.float16, 0.03)])
def test_half_precision_is_near_float32(model, noise_slide, dtype, tolerance):
    slide = noise_slide(100, 80)
    whole = whole_slide_logits(model, slide, PROCESSOR)
    half = stitched(stream_tiles(model, slide, tissue=None, dtype=dtype), (100, 80))
    assert half.dtype == torch.float32
    assert (half - whole).abs().max() < tolerance * whole.abs().max()


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_gives_the_same_and_keeps_a_version_of_every_block(noise_slide):
    slide, model = noise_slide(150, 90), MODELS[4]
    network = PixelNetwork(model, compiled=True)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        compiled = stitched(stream_tiles(network, slide, tissue=None, tile_size=64), (150, 90))
    assert (compiled - whole_slide_logits(model, slide, PROCESSOR)).abs().max() <= 1e-4


def test_the_surroundings_of_a_tile_are_read_from_the_slide_also_off_the_tissue(model, noise_slide):
    slide = noise_slide(192, 64)
    tissue = np.array([[False, True, False]])
    whole = whole_slide_logits(model, slide, PROCESSOR)
    (tile,) = stream_tiles(model, slide, tissue=tissue, tile_size=64)
    assert (tile.x_px, tile.y_px) == (64, 0)
    assert (tile.logits - whole[:, :, 64:128]).abs().max() <= 1e-4


def test_a_transformer_of_two_classes_works_too(noise_slide, caplog):
    sizes = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}
    config = SegformerConfig(**sizes, decoder_hidden_size=8, id2label={0: "benign", 1: "malignant"})
    model = SegformerForSemanticSegmentation(config).eval()
    result = segment_slide(model, noise_slide(200, 140), tissue=None, image_processor=PROCESSOR, tile_size=128)
    assert "overlap by 128 pixels and are blended" in caplog.text
    assert result.provenance["settings"]["seams"] == "blended over 128 px"
    assert ((result.probabilities[:] > 0) & (result.probabilities[:] < 1)).all()
    with pytest.raises(ValueError, match="pass image_processor"):
        PixelNetwork(model)


def test_other_networks_are_blended_where_tiles_meet(noise_slide):
    class Mean(torch.nn.Module):
        """Looks at the whole image, and gives logits at a quarter of its size, as transformers do."""

        class config:  # noqa: N801
            num_labels, id2label, name_or_path = 2, {0: "benign", 1: "malignant"}, ""

        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, pixel_values):
            small = pixel_values[:, :2, ::4, ::4]
            return type("Output", (), {"logits": small * 0 + pixel_values.mean()})

    slide = noise_slide(300, 150)
    network = PixelNetwork(Mean(), PROCESSOR)
    assert not network.exact
    tiles = list(stream_tiles(network, slide, tissue=None, tile_size=128))
    assert [(t.y_px, t.x_px) for t in tiles] == sorted((t.y_px, t.x_px) for t in tiles)
    joined = stitched(tiles, (300, 150))
    assert not joined.isnan().any()
    steps = joined[0, :, 1:] - joined[0, :, :-1]
    assert (joined.max() - joined.min()) > 0
    assert steps.abs().max() < 0.02 * (joined.max() - joined.min())  # a ramp over 128 pixels, no seam


def test_a_resampled_slide_gives_the_same_bits_whatever_the_tiles(tmp_path, model):
    slide = write_slide(tmp_path / "fine.png", noise(611, 1013), mpp=0.499)
    size = slide.size_px(1.0)
    first, second = (stitched(stream_tiles(model, slide, tissue=None, tile_size=t), size) for t in (64, 1024))
    assert (first - second).abs().max() <= 1e-5


def test_tiles_filled_up_to_few_sizes_join_too(noise_slide, monkeypatch):
    """What a GPU does: its libraries take up to seconds for each new size."""
    slide, model, sizes = noise_slide(700, 600), MODELS[3], set()
    tissue = np.zeros((60, 70), bool)
    tissue[3:50, 5:20] = tissue[40:48, 5:66] = tissue[10:13, 40:45] = True
    network = PixelNetwork(model)
    network.few_sizes = True
    compute = network._unet.__call__
    monkeypatch.setattr(network, "_unet", lambda x, margin: sizes.add(tuple(x.shape)) or compute(x, margin))
    monkeypatch.setattr(network, "cost", lambda height, width: height * width)  # as many parts as can be
    whole = whole_slide_logits(model, slide, PROCESSOR)
    parts = list(stream_tiles(network, slide, tissue=tissue, tile_size=400, batch_size=2))
    for part in parts:
        height, width = part.logits.shape[1:]
        truth = whole[:, part.y_px : part.y_px + height, part.x_px : part.x_px + width]
        assert (part.logits - truth).abs().max() <= 1e-4
    assert len({part.logits.shape for part in parts}) > 4 >= len(sizes)
    assert {shape[0] for shape in sizes} == {2}
