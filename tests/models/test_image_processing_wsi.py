"""Pixel classes from logits, as transformers' own image-segmentation pipeline asks for them."""

import torch

from wsi_hf import WsiImageProcessor
from wsi_hf.models.modeling_wsi_unet import WsiSegmentationOutput


def test_a_pixel_is_malignant_from_the_operating_point_on():
    margins = torch.tensor([[[-1.0, 0.5, 2.0, 6.0]]])
    outputs = WsiSegmentationOutput(logits=torch.stack((torch.zeros_like(margins), margins), dim=1))
    classes = WsiImageProcessor().post_process_semantic_segmentation
    assert classes(outputs)[0].tolist() == [[0, 1, 1, 1]]
    assert classes(outputs, shift=3.0)[0].tolist() == [[0, 0, 0, 1]]
    (enlarged,) = classes(outputs, target_sizes=[(2, 8)], shift=1.25)  # where it crosses, half-way between two pixels
    assert enlarged.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2
