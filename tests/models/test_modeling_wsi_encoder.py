"""A pre-trained encoder under a light decoder: of any family, frozen, fine-tuned or with adapters."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import (
    AutoModelForSemanticSegmentation,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    ResNetConfig,
    SwinConfig,
    TimmWrapperConfig,
    TimmWrapperModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from wsi_hf import Slide, WsiEncoderConfig, WsiEncoderForSegmentation, WsiImageProcessor, segment_slide
from wsi_hf.inference.network import default_image_processor
from wsi_hf.models.encoders import evenly_spaced

VIT = {"hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
ENCODERS = {
    "convnext": ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1], out_features=STAGES),
    "swin": SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES),
    "resnet": ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1], layer_type="basic", out_features=STAGES
    ),
    "dinov2": Dinov2Config(patch_size=14, out_features=["stage2", "stage4"], **VIT),
    "dinov3": DINOv3ViTConfig(patch_size=16, out_features=["stage2", "stage4"], **VIT),
    "vit": ViTConfig(patch_size=16, **VIT),
}


def model_of(name: str = "convnext", **settings) -> WsiEncoderForSegmentation:
    torch.manual_seed(0)
    config = WsiEncoderConfig(
        backbone_config=ENCODERS[name].to_dict(), decoder_channels=8, pixel_channels=4, **settings
    )
    return WsiEncoderForSegmentation(config)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_family_gives_a_logit_a_pixel_and_comes_back_whole(tmp_path, name):
    model = model_of(name, eta=20.0).eval()
    pixels = torch.randn(2, 3, 70, 45)
    with torch.no_grad():
        out = model(pixels, labels=torch.tensor([0, 1]))
        assert out.logits.shape == (2, 2, 70, 45)
        assert out.slide_logits.shape == (2, 2)
        assert out.loss.isfinite()
        model.save_pretrained(tmp_path)
        again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
        assert type(again) is WsiEncoderForSegmentation
        assert torch.equal(again.eval()(pixels).logits, out.logits)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_a_frozen_encoder_stays_as_it_was(name):
    model = model_of(name).train()
    before = {key: tensor.clone() for key, tensor in model.backbone.state_dict().items()}
    model(torch.randn(4, 3, 64, 64), labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    assert all(weight.grad is None for weight in model.backbone.parameters())
    assert all(weight.grad is not None for weight in model.decoder.parameters())
    for key, tensor in model.backbone.state_dict().items():  # running statistics among them
        assert torch.equal(tensor, before[key]), key


def test_an_encoder_that_is_not_frozen_learns():
    model = model_of("resnet", freeze_encoder=False).train()
    model(torch.randn(4, 3, 64, 64), labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.backbone.parameters())


def test_adapters_learn_alone_and_fold_into_the_encoder(tmp_path):
    pytest.importorskip("peft")
    model = model_of("dinov2", lora_rank=2).train()
    learning = {name for name, weight in model.backbone.named_parameters() if weight.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    with torch.no_grad():
        for name, weight in model.backbone.named_parameters():
            if "lora_B" in name:
                weight.normal_()  # they start at zero
    pixels = torch.randn(1, 3, 56, 56)
    model.eval().save_pretrained(tmp_path / "adapted")
    with torch.no_grad():
        expected = model(pixels).logits
        again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "adapted").eval()
        assert torch.equal(again(pixels).logits, expected)
        model.merge_lora()
        model.save_pretrained(tmp_path / "folded")
        folded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "folded").eval()
        assert not any("lora" in name for name in folded.state_dict())
        torch.testing.assert_close(folded(pixels).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("encoder", "of"), [(ConvNextModel, "convnext"), (Dinov2Model, "dinov2"), (ViTModel, "vit")])
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_published_encoder_brings_its_weights_and_its_colours(tmp_path, encoder, of, lora_rank):
    if lora_rank:
        pytest.importorskip("peft")
    torch.manual_seed(1)
    published = encoder(type(ENCODERS[of])(**{**ENCODERS[of].to_dict(), "out_features": None, "out_indices": None}))
    published.save_pretrained(tmp_path)
    ViTImageProcessor(image_mean=[0.7, 0.6, 0.7], image_std=[0.2, 0.2, 0.2]).save_pretrained(tmp_path)
    model = WsiEncoderForSegmentation.from_encoder(tmp_path, mpp=0.5, decoder_channels=8, lora_rank=lora_rank)
    theirs = published.state_dict()
    ours = {k.removeprefix("model.").replace(".base_layer.", "."): v for k, v in model.backbone.state_dict().items()}
    same = [key for key in theirs if key in ours and torch.equal(theirs[key], ours[key])]
    assert len(same) >= len(theirs) - 4  # but a pooler or a last norm
    processor = default_image_processor(model)
    assert (processor.mpp, list(processor.image_mean)) == (0.5, [0.7, 0.6, 0.7])


TIMM = [("vit_tiny_patch16_224", {"init_values": 1e-5, "depth": 4}, 16), ("efficientnet_lite0", {}, 32)]


@pytest.mark.parametrize(("architecture", "arguments", "alignment"), TIMM)
def test_an_encoder_of_timm_brings_its_weights_and_its_colours(tmp_path, architecture, arguments, alignment):
    pytest.importorskip("timm", reason="needs torchvision, which takes the place of the CPU build of torch")
    published = TimmWrapperModel(TimmWrapperConfig(architecture=architecture, model_args=arguments))
    published.save_pretrained(tmp_path / "encoder")
    path = tmp_path / "encoder" / "config.json"
    facts = json.loads(path.read_text()) | {"pretrained_cfg": {"mean": [0.7, 0.6, 0.7], "std": [0.2, 0.2, 0.2]}}
    path.write_text(json.dumps(facts | {"model_args": {**arguments, "num_classes": 0}}))  # as on the Hub
    model = WsiEncoderForSegmentation.from_encoder(tmp_path / "encoder", mpp=0.5, decoder_channels=8).eval()
    assert model.config.alignment == alignment
    assert list(model.config.image_mean) == [0.7, 0.6, 0.7]
    theirs, ours = published.state_dict(), model.backbone.model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    pixels = torch.randn(1, 3, 70, 45)
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(again(pixels).logits, model(pixels).logits)
    if "init_values" in arguments:  # weights without their place would be dropped in silence
        path.write_text(json.dumps(facts | {"model_args": {"depth": 4}}))
        with pytest.raises(ValueError, match=r"ls1.gamma.*may lack model_args"):
            WsiEncoderForSegmentation.from_encoder(tmp_path / "encoder")


def test_a_slide_is_segmented_with_blended_tiles(synthetic_slide):
    result = segment_slide(model_of().eval(), synthetic_slide, tile_size=128)
    assert result.probabilities.shape == Slide(synthetic_slide).size_px(1.0)[::-1]


def test_layers_of_a_transformer_are_spaced_evenly():
    assert evenly_spaced(12) == [3, 6, 9, 12]
    assert evenly_spaced(2) == [1, 2]


def test_the_image_processor_of_a_saved_folder_is_this_packages(tmp_path):
    from transformers import AutoImageProcessor

    model = model_of()
    model.save_pretrained(tmp_path)
    default_image_processor(model).save_pretrained(tmp_path)
    assert isinstance(AutoImageProcessor.from_pretrained(tmp_path), WsiImageProcessor)


@pytest.mark.parametrize("settings", [{"decoder_channels": 0}, {"lora_rank": -1}, {"eta": 0.0}, {"beta_0": 1.0}])
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(StrictDataclassClassValidationError):
        WsiEncoderConfig(**settings)
