"""What `--model` takes: this package's networks, other segmenters, encoders; and what it refuses."""

import pytest
from transformers import (
    BertConfig,
    BertModel,
    ConvNextConfig,
    ConvNextModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

from wsi_hf import WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation
from wsi_hf.inference.network import check_model
from wsi_hf.job.network import known_network

ENCODER = ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1])
SEGMENTER = SegformerConfig(
    num_labels=5,
    hidden_sizes=[8, 8, 8, 8],
    num_attention_heads=[1, 1, 1, 1],
    depths=[1, 1, 1, 1],
    decoder_hidden_size=8,
)


def test_a_network_of_this_package_keeps_its_resolution(tmp_path):
    WsiUNetForSegmentation(WsiUNetConfig(filters=2, depth=1, mpp=2.0)).save_pretrained(tmp_path)
    WsiImageProcessor(mpp=2.0).save_pretrained(tmp_path)
    model, image_processor = known_network(str(tmp_path), mpp=1.0)
    assert (type(model), image_processor.mpp) == (WsiUNetForSegmentation, 2.0)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda: SegformerForSemanticSegmentation(SEGMENTER), "SegformerForSemanticSegmentation"),
        (lambda: ConvNextModel(ENCODER), "WsiEncoderForSegmentation"),
    ],
    ids=["segmenter of five classes", "encoder"],
)
def test_other_networks_get_two_classes_and_the_resolution_asked_for(tmp_path, made, name):
    made().save_pretrained(tmp_path)
    model, image_processor = known_network(str(tmp_path), mpp=0.5)
    check_model(model)
    assert (type(model).__name__, image_processor.mpp) == (name, 0.5)
    assert dict(model.config.id2label) == {0: "benign", 1: "malignant"}


def test_what_sees_no_images_or_is_not_there_is_refused(tmp_path):
    BertModel(
        BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, vocab_size=9)
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no network or encoder for images"):
        known_network(str(tmp_path), mpp=1.0)
    with pytest.raises(FileNotFoundError, match="cannot be loaded"):
        known_network(str(tmp_path / "nothing"), mpp=1.0)
