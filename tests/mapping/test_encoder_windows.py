"""Windows described by a pre-trained encoder."""

import numpy as np
import pytest
import torch
from transformers import Dinov2Backbone, Dinov2Config, ResNetBackbone, ResNetConfig

from tests.mapping.test_first_maps import blobs, maps_of, mass  # noqa: F401 - a fixture
from tests.training.conftest import make_trainer
from wsi_hf.mapping.discovery.encoder_windows import EncoderWindows
from wsi_hf.mapping.discovery.finders import finder_of
from wsi_hf.mapping.discovery.tissue_kinds import BLOCK_PX
from wsi_hf.mapping.discovery.tissue_statistics import MARGIN_BLOCKS


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with a tiny encoder of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetBackbone(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("zoom", [1, 2])
def test_a_block_is_described_by_its_own_surroundings(encoder, zoom):
    describe = EncoderWindows(encoder, zoom)
    side = (12 + 2 * MARGIN_BLOCKS) * BLOCK_PX * zoom
    pixels = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8)
    describe.fit([pixels])
    described = describe(pixels)
    assert described.shape[:2] == (12, 12)
    changed = pixels.clone()
    corner = 4 * BLOCK_PX * zoom
    changed[-corner:, -corner:] = 0
    difference = (describe.maps(changed) - describe.maps(pixels)).abs().sum(2)
    assert difference[-1, -1] > 10 * difference[0, 0]


def test_sides_are_filled_up_to_the_patches_of_a_vision_transformer(tmp_path):
    small = {"hidden_size": 8, "num_hidden_layers": 6, "num_attention_heads": 2, "patch_size": 14, "image_size": 28}
    Dinov2Backbone(Dinov2Config(**small, out_features=["stage6"])).save_pretrained(tmp_path)
    describe = EncoderWindows(tmp_path)
    assert describe.network.config.alignment == 14
    side = (4 + 2 * MARGIN_BLOCKS) * BLOCK_PX
    assert describe.maps(torch.zeros((side, side, 3), dtype=torch.uint8)).shape == (4, 4, 32)


def test_finders_zoom_in_where_the_model_sees_little(encoder):
    assert [finder_of("discriminant", mpp, encoder).zoom for mpp in (0.5, 1.0, 1.944, 2.2, 4.0)] == [1, 1, 2, 2, 4]
    assert finder_of("discriminant", 4.0).zoom == 1


def test_patches_go_where_malignant_slides_differ(tmp_path, blobs, encoder):  # noqa: F811
    more = {"discovery": "discriminant", "discovery_encoder": encoder, "discovery_steps": 4}
    _, maps = maps_of(tmp_path, blobs, **more)
    shares = [cells[12:20, 12:20].sum() / cells.sum() for cells in map(mass, maps)]
    area = (8 / 32) ** 2
    assert np.mean(shares[1::2]) > 2 * area
    assert np.mean(shares[::2]) < area + 0.01


def test_an_encoder_needs_the_discriminant(tmp_path, blobs, encoder):  # noqa: F811
    with pytest.raises(ValueError, match="goes with --discovery discriminant"):
        make_trainer(tmp_path, blobs, discovery_encoder=encoder)
