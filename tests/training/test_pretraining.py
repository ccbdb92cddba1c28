import pytest
import torch

from wsi_hf import WsiUNetConfig, WsiUNetForReconstruction, WsiUNetForSegmentation
from wsi_hf.training.pretraining import copy_matching


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


def test_another_architecture_is_refused(tmp_path):
    WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=1)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="another architecture"):
        copy_matching(torch.nn.Linear(2, 2), tmp_path)
