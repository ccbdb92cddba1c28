"""The discriminant: finds from slide labels alone what tells tissue apart, and does not find what is not there."""

import numpy as np
import pytest
import torch

from wsi_hf.mapping.discovery.discriminant import malignancy
from wsi_hf.mapping.discovery.tissue_kinds import BLOCK_PX
from wsi_hf.mapping.discovery.tissue_statistics import MARGIN_BLOCKS, statistics

LABELS = np.repeat([0, 1], 30)


def cohort(share: float, shift: float = 4.0) -> list[np.ndarray]:
    """Windows of 60 slides, (200, 8) each; tumour differs in one mixture of features, and not in the widest."""
    rng, mixed, direction = np.random.default_rng(0), np.random.default_rng(1).normal(size=(8, 8)), np.eye(8)[0]
    slides = []
    for label in LABELS:
        windows = rng.normal(size=(200, 8)) * np.r_[1, np.full(7, 4)]
        windows[: int(share * 200 * label)] += shift * direction
        slides.append((windows @ mixed).astype(np.float16))
    return slides


@pytest.mark.parametrize("share", [0.3, 0.05])
def test_tumour_is_found_from_labels_alone(share):
    q, found = malignancy(cohort(share), LABELS, seed=0)
    tumour, others = (np.concatenate([slide[part] for slide in q[30:]]) for part in tumour_and_others(share))
    assert found
    assert np.mean(tumour > 0.5) > 0.15
    assert np.mean(others > 0.5) < 0.02
    assert max(slide.max() for slide in q) <= 0.95


def tumour_and_others(share: float) -> tuple[slice, slice]:
    return slice(0, int(share * 200)), slice(int(share * 200), None)


def test_labels_that_mean_nothing_find_nothing():
    rng = np.random.default_rng(2)
    found = [malignancy(cohort(0), rng.permutation(LABELS), seed)[1] for seed in range(10)]
    assert sum(found) <= 1


def test_the_same_seed_finds_the_same_and_a_slide_without_windows_is_left_out():
    features = cohort(0.3)
    features[0] = features[59] = np.zeros((0, 8), np.float16)
    first, second = (malignancy(features, LABELS, seed=1)[0] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert [len(slide) for slide in first] == [0] + [200] * 58 + [0]


def test_tiles_join_without_a_seam_and_flat_tissue_has_no_texture():
    pixels = torch.randint(0, 256, (10 * BLOCK_PX, 13 * BLOCK_PX, 3), dtype=torch.uint8)
    whole, cut = statistics(pixels), 2 * MARGIN_BLOCKS + 2
    left, right = statistics(pixels[:, : cut * BLOCK_PX]), statistics(pixels[:, 2 * BLOCK_PX :])
    assert whole.shape == (2, 5, 87)
    assert torch.equal(torch.cat((left, right), dim=1), whole)
    flat = statistics(torch.full((144, 160, 3), 100, dtype=torch.uint8))
    assert torch.allclose(flat, flat[:1, :1].expand_as(flat), atol=1e-6)
