import pytest
import torch

from wsi_hf import (
    WsiImageProcessor,
    WsiTrainingArguments,
    WsiUNetConfig,
    WsiUNetForReconstruction,
    WsiUNetForSegmentation,
)
from wsi_hf.training.pretraining import AUTOENCODER, WsiPretrainer, copy_matching, pretrain_first

from .conftest import SETTINGS, assert_equal, weights


def test_what_matches_is_copied_and_the_rest_is_named(tmp_path):
    config = WsiUNetConfig(filters=4, depth=2)
    source, target = WsiUNetForReconstruction(config), WsiUNetForSegmentation(config)
    source.save_pretrained(tmp_path)
    before = target.unet.decoder[0].conv1[1].weight.clone()
    report = copy_matching(target, tmp_path)
    assert torch.equal(target.unet.bottom.conv1[1].weight, source.unet.bottom.conv1[1].weight)
    assert torch.equal(target.unet.decoder[0].conv1[1].weight, before)
    assert "unet.decoder.0.conv1.1.weight" in report.other_shape
    shortcuts = [f"unet.decoder.{level}.shortcut.weight" for level in (0, 1)]  # skips double the channels there
    assert report.missing == [*shortcuts, "classifier.weight", "classifier.bias"]
    assert len(report.copied) + len(report.other_shape) + 4 == len(target.state_dict())
    assert "classifier.bias" in str(report)
    target.save_pretrained(tmp_path / "target")
    origin = WsiUNetForSegmentation.from_pretrained(tmp_path / "target").config.initialized_from
    assert (origin["name"], origin["architecture"]) == (tmp_path.name, "WsiUNetForReconstruction")
    assert origin["tensors"] == len(report.copied)


def test_another_architecture_is_refused(tmp_path):
    WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=1)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="another architecture"):
        copy_matching(torch.nn.Linear(2, 2), tmp_path)


def make_pretrainer(output_dir, slides, **changes):
    torch.manual_seed(0)
    model = WsiUNetForReconstruction(WsiUNetConfig(filters=4, depth=2))
    args = WsiTrainingArguments(output_dir=str(output_dir), **{**SETTINGS, "max_steps": 6, **changes})
    return WsiPretrainer(model, args, slides, slides)


def test_pretraining_reads_no_label_goes_on_where_it_was_stopped_and_is_a_model_like_any(slides, tmp_path):
    whole = make_pretrainer(tmp_path / "whole", slides.remove_columns(["label"]))
    before = whole.evaluate()["eval_loss"]
    whole.train()
    assert whole.evaluate()["eval_loss"] < before

    make_pretrainer(tmp_path / "parts", slides, save_strategy="steps", save_steps=4).train()
    resumed = make_pretrainer(tmp_path / "parts", slides)
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts/checkpoint-4"))
    assert_equal(weights(resumed), weights(whole))

    whole.save_model()
    loaded = WsiUNetForReconstruction.from_pretrained(whole.args.output_dir)
    assert_equal(loaded.state_dict(), weights(whole))
    tissue, reconstructed = whole.reconstruct(n=3)
    assert tissue.shape == reconstructed.shape == (3, 32, 32, 3)


def test_a_training_may_begin_as_an_auto_encoder_of_its_own_slides(slides, tmp_path):
    model = WsiUNetForSegmentation(WsiUNetConfig(filters=4, depth=2))
    args = WsiTrainingArguments(output_dir=str(tmp_path), **{**SETTINGS, "save_strategy": "steps", "save_steps": 1})
    report = pretrain_first(model, args, slides, WsiImageProcessor(mpp=1.0), steps=2)
    source = WsiUNetForReconstruction.from_pretrained(tmp_path / AUTOENCODER)
    assert torch.equal(model.unet.bottom.conv1[1].weight, source.unet.bottom.conv1[1].weight)
    assert "unet.bottom.conv1.1.weight" in report.copied
    assert (model.config.initialized_from["name"], model.config.initialized_from["steps"]) == (AUTOENCODER, 2)
    assert args.max_steps == SETTINGS["max_steps"]
    assert [path.name for path in tmp_path.iterdir()] == [AUTOENCODER]  # nothing that a resumed run would take up
