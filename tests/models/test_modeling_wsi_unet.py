import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSemanticSegmentation, pipeline

from wsi_hf import (
    WsiImageProcessor,
    WsiUNetConfig,
    WsiUNetForReconstruction,
    WsiUNetForSegmentation,
    WsiUNetModel,
    beta_divergence,
    slide_logits,
)
from wsi_hf.models.slide_head import smooth, smooth_along


@pytest.fixture
def model() -> WsiUNetForSegmentation:
    torch.manual_seed(0)
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2))
    with torch.no_grad():  # running statistics that are not the initial ones
        for _ in range(3):
            model(torch.randn(2, 3, 32, 32))
    return model.eval()


def test_defaults_are_the_papers():
    config = WsiUNetConfig()
    assert (config.filters, config.eta, config.mpp) == (32, 50.0, 1.0)
    assert config.id2label == {0: "benign", 1: "malignant"}
    assert (config.beta_0, config.beta_1) == (0.0, 1.0)


def test_output_has_one_logit_a_class_and_pixel(model):
    out = model(torch.zeros(2, 3, 24, 40))
    assert out.logits.shape == (2, 2, 24, 40)
    assert out.slide_logits.shape == (2, 2)
    assert out.loss is None


def test_loss_is_the_mean_beta_divergence_of_the_slide_logits(model):
    out = model(torch.randn(2, 3, 16, 16), labels=torch.tensor([0, 1]))
    expected = beta_divergence(slide_logits(out.logits, 50.0), torch.tensor([0, 1]), (0.0, 1.0)).mean()
    assert out.loss.item() == expected.item()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 30)])
def test_sides_need_not_be_multiples_of_two_to_the_depth(model, height, width):
    assert model(torch.zeros(1, 3, height, width)).logits.shape == (1, 2, height, width)


@pytest.mark.parametrize("depth", [2, 3])
def test_an_aligned_margin_covers_the_receptive_field(depth):
    torch.manual_seed(0)
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=depth)).eval()
    m, a = model.config.margin, model.config.alignment
    image = torch.randn(1, 3, 16 * a, 16 * a)
    with torch.no_grad():
        whole = model(image).logits
        tile = model(image[:, :, 8 * a - m : 9 * a + m, 7 * a - m : 9 * a + m]).logits[:, :, m:-m, m:-m]
    assert (whole[:, :, 8 * a : 9 * a, 7 * a : 9 * a] - tile).abs().max() < 1e-5


def test_save_and_load_round_trip_is_bit_exact(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = WsiUNetForSegmentation.from_pretrained(tmp_path)
    assert again.config.to_diff_dict() == model.config.to_diff_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(model(x).logits, again(x).logits)


def test_a_fresh_offline_process_loads_through_the_auto_classes(model, tmp_path):
    model.save_pretrained(tmp_path)
    WsiImageProcessor(mpp=0.5).save_pretrained(tmp_path)
    torch.save(model(torch.ones(1, 3, 16, 16)).logits, tmp_path / "expected.pt")
    script = f"""
import torch, wsi_hf
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
model = AutoModelForSemanticSegmentation.from_pretrained({str(tmp_path)!r})
assert type(model) is wsi_hf.WsiUNetForSegmentation
assert AutoImageProcessor.from_pretrained({str(tmp_path)!r}).mpp == 0.5
assert torch.equal(model(torch.ones(1, 3, 16, 16)).logits, torch.load({str(tmp_path / "expected.pt")!r}))
"""
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=120)


def test_the_auto_classes_know_the_model(model):
    config = AutoConfig.for_model("wsi-unet", filters=4, depth=2)
    assert type(AutoModelForSemanticSegmentation.from_config(config)) is WsiUNetForSegmentation
    assert type(AutoModel.from_config(config)) is WsiUNetModel


def test_the_image_segmentation_pipeline_works_on_a_patch(model, tmp_path):
    from PIL import Image

    model.save_pretrained(tmp_path)
    WsiImageProcessor().save_pretrained(tmp_path)
    segments = pipeline("image-segmentation", model=str(tmp_path))(Image.new("RGB", (40, 24), "white"))
    assert {segment["label"] for segment in segments} <= {"benign", "malignant"}
    assert all(segment["mask"].size == (40, 24) for segment in segments)


def test_the_auto_encoder_reconstructs_without_lateral_skips():
    model = WsiUNetForReconstruction(WsiUNetConfig(filters=4, depth=2))
    out = model(torch.randn(2, 3, 16, 16))
    assert out.reconstruction.shape == (2, 3, 16, 16)
    assert out.loss.requires_grad
    assert model.unet.decoder[0].conv1[0].in_channels == 4


@pytest.mark.parametrize(
    "wrong", [{"eta": 0}, {"eta": 101}, {"beta_1": 1.5}, {"filters": 0}, {"depth": 99}, {"mpp": 0.0}, {"smoothing": -1}]
)
def test_values_the_method_does_not_admit_are_refused(wrong):
    with pytest.raises(Exception, match=next(iter(wrong))):
        WsiUNetConfig(**wrong)


def test_three_classes_are_refused():
    with pytest.raises(ValueError, match="two classes"):
        WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=1, num_labels=3))


def test_weights_of_another_architecture_are_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="mismatch"):
        WsiUNetForSegmentation.from_pretrained(tmp_path, config=WsiUNetConfig(filters=8, depth=2))


def test_the_processor_normalises_a_tile_as_it_does_an_image():
    processor = WsiImageProcessor(mpp=0.5)
    image = torch.randint(0, 256, (24, 16, 3), dtype=torch.uint8)
    single = processor(image.numpy(), return_tensors="pt")["pixel_values"]
    assert torch.allclose(single.float(), processor.normalize_batch(image[None]), atol=1e-5)


def test_smoothing_averages_logits_over_windows_and_over_what_there_is_at_the_border():
    logits = torch.randn(1, 2, 9, 7)
    smoothed = smooth(logits, 2)
    assert torch.allclose(smoothed[0, 1, 4, 3], logits[0, 1, 2:7, 1:6].mean())
    assert torch.allclose(smoothed[0, 0, 0, 0], logits[0, 0, :3, :3].mean())
    assert torch.allclose(smooth(logits, 2, padded=False), smoothed[:, :, 2:-2, 2:-2], atol=1e-6)
    assert smooth(logits, 0) is logits


def test_guided_smoothing_keeps_an_edge_that_is_seen_and_averages_where_nothing_is():
    torch.manual_seed(0)
    pixels = torch.ones(1, 3, 40, 60)
    pixels[:, :, :, 30:] = -1.0
    clean = torch.where(pixels[:, :2] > 0, 2.0, -2.0)
    logits = clean + torch.randn_like(clean)
    guided, plain = smooth_along(pixels, logits, 8), smooth(logits, 8)
    away = (abs(torch.arange(60) - 29.5) > 3).nonzero()[:, 0]  # the guide itself is a mean over five pixels
    along, across = ((smoothed - clean)[..., away].abs().mean() for smoothed in (guided, plain))
    near = (plain - clean)[:, :, :, 24:27].abs().mean(), (guided - clean)[:, :, :, 24:27].abs().mean()
    assert along < across
    assert near[0] > 0.6 > 0.3 > near[1]

    flat = torch.full((1, 3, 40, 60), 0.3)
    assert torch.allclose(smooth_along(flat, logits, 8), smooth(smooth(logits, 8), 8), atol=1e-4)
    assert smooth_along(flat, logits, 0) is logits


def test_a_model_may_smooth_along_its_image():
    torch.manual_seed(0)
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2, smoothing=3, guided_smoothing=True)).eval()
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        smoothed = model(pixels).logits
        model.config.smoothing = 0
        assert torch.allclose(smoothed, smooth_along(pixels, model(pixels).logits, 3), atol=1e-5)
