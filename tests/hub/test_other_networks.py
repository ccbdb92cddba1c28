"""Any AutoModelForSemanticSegmentation of two labels: trained, saved, pushed, pulled, and a slide segmented."""

import pytest
import torch
from torch.nn.functional import interpolate
from transformers import (
    AutoModelForSemanticSegmentation,
    ConvNextConfig,
    MobileNetV2Config,
    PreTrainedModel,
    SegformerConfig,
    pipeline,
)

from wsi_hf import (
    Slide,
    WsiEncoderConfig,
    WsiImageProcessor,
    WsiTrainer,
    WsiTrainingArguments,
    beta_divergence,
    slide_logits,
)
from wsi_hf.cohorts.camelyon16 import load_cohort

from .conftest import SETTINGS

LABELS = {"id2label": {0: "benign", 1: "malignant"}, "label2id": {"benign": 0, "malignant": 1}}
NETWORKS = {
    "mobilenet_v2 + deeplabv3": MobileNetV2Config(
        image_size=64, depth_multiplier=0.35, output_stride=8, finegrained_output=False, **LABELS
    ),
    "segformer": SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16,
        **LABELS,
    ),
    "convnext + this package's decoder": WsiEncoderConfig(
        backbone_config=ConvNextConfig(
            hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
        ),
        decoder_channels=8, pixel_channels=4, freeze_encoder=False,
    ),
}  # fmt: skip

FOREIGN = ("mobilenet_v2 + deeplabv3", "segformer")  # transformers' own; they give logits of a lower resolution


def network(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSemanticSegmentation.from_config(NETWORKS[name])


def trainer_of(model: PreTrainedModel, folder, cohort, **changes) -> WsiTrainer:
    slides = load_cohort(cohort).filter(lambda row: row["split"] == "train")
    args = WsiTrainingArguments(
        output_dir=str(folder), hub_model_id="org/other", **{**SETTINGS, "patch_size": 64, **changes}
    )
    processor = WsiImageProcessor(mpp=1.0, image_mean=[0.5] * 3, image_std=[0.25] * 3)
    return WsiTrainer(model, args, slides, processing_class=processor)


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_saved_pushed_pulled_and_a_slide_segmented(hub, tiny_cohort, synthetic_slide, tmp_path, name):
    model = network(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    trainer = trainer_of(model, tmp_path / "run", tiny_cohort)
    trainer.train()
    assert any(not torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    trainer.push_to_hub()
    pipe = pipeline("wsi-segmentation", model="org/other")
    assert type(pipe.model) is type(model)
    for key, tensor in pipe.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key
    assert list(pipe.image_processor.image_std) == [0.25] * 3
    result = pipe(str(synthetic_slide), tile_size=128)
    assert result["revision"] == hub.repo("models", "org/other").refs["main"]
    assert result["probability_map"].shape == Slide(synthetic_slide).size_px(1.0)[::-1]
    assert 0 < result["score"] < 1
    card = hub.repo("models", "org/other").files()["README.md"].decode()
    assert type(model).__name__ in card
    assert ("trust_remote_code" in card) == (name not in FOREIGN)


@pytest.mark.parametrize("name", FOREIGN)
def test_the_slide_head_works_on_upsampled_logits(tiny_cohort, tmp_path, name):
    model = network(name).eval()
    trainer = trainer_of(model, tmp_path, tiny_cohort, eta=20.0)
    batch = {
        "pixel_values": torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1]),
    }
    loss, outputs = trainer.compute_loss(model, batch, return_outputs=True)
    low = model(trainer.image_processor.normalize_batch(batch["pixel_values"])).logits
    assert low.shape[-1] < 64
    logits = interpolate(low, size=(64, 64), mode="bilinear", align_corners=False)
    expected = beta_divergence(slide_logits(logits, 20.0), batch["labels"], (0.0, 1.0)).mean()
    assert outputs["logits"].shape == (4, 2, 64, 64)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_eta_is_the_papers_where_neither_network_nor_arguments_say(tiny_cohort, tmp_path):
    assert trainer_of(network("segformer"), tmp_path / "a", tiny_cohort).eta == 50.0
    assert trainer_of(network("segformer"), tmp_path / "b", tiny_cohort, eta=20.0).eta == 20.0


def test_a_network_that_does_not_say_its_resolution_needs_an_image_processor(tiny_cohort, tmp_path):
    slides = load_cohort(tiny_cohort)
    args = WsiTrainingArguments(output_dir=str(tmp_path), **SETTINGS)
    with pytest.raises(ValueError, match="does not say its mpp"):
        WsiTrainer(network("segformer"), args, slides)


def test_other_labels_are_refused(tiny_cohort, tmp_path):
    config = SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_labels=5)
    model = AutoModelForSemanticSegmentation.from_config(config)
    with pytest.raises(ValueError, match="two classes"):
        trainer_of(model, tmp_path, tiny_cohort)
