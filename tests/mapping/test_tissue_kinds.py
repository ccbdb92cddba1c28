"""Kinds of tissue: their description, and which of them malignant slides hold more of."""

import numpy as np
import pytest
import torch

from wsi_hf.mapping.discovery.tissue_kinds import BLOCK_PX, attainable, background, enrichment, malignancy, texture


def noise(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows * BLOCK_PX, columns * BLOCK_PX, 3), dtype=torch.uint8, generator=generator)


def windows(rng: np.random.Generator, centre: float, n: int) -> np.ndarray:
    return rng.normal(centre, 1.0, size=(n, 6)).astype(np.float16)


def test_flat_tissue_has_no_texture_and_keeps_its_density():
    flat = texture(torch.full((64, 80, 3), 100, dtype=torch.uint8))
    assert flat.shape == (2, 3, 18)  # a margin of one block is left out
    assert flat[..., :16].abs().max() < 1e-5
    assert flat[..., 16:].abs().min() > 1e-3
    assert torch.allclose(flat, flat[:1, :1].expand_as(flat), atol=1e-6)


def test_tiles_join_without_a_seam():
    pixels = noise(6, 7)
    left, right = texture(pixels[:, : 5 * BLOCK_PX]), texture(pixels[:, 3 * BLOCK_PX :])
    assert torch.equal(torch.cat((left, right), dim=1), texture(pixels))


def test_a_finer_texture_shows_in_a_finer_level():
    fine = torch.full((48, 48, 3), 200, dtype=torch.uint8)
    fine[::2, ::2] = 50
    coarse = torch.full((48, 48, 3), 200, dtype=torch.uint8)
    coarse[torch.arange(48) % 16 < 8] = 50
    finest, coarsest = slice(0, 2), slice(12, 14)  # mean absolute differences of the two stains
    assert texture(fine)[0, 0, finest].abs().min() > 10 * texture(coarse)[0, 0, finest].abs().max()
    assert texture(coarse)[0, 0, coarsest].abs().min() > 10 * texture(fine)[0, 0, coarsest].abs().max()


def test_a_kind_is_enriched_when_malignant_slides_hold_significantly_more_of_it():
    labels = np.repeat([0, 1], 20)
    shares = np.stack(
        [
            np.where(labels == 1, 0.3, 0.1) + 0.001 * (np.arange(40) % 20),  # three times as much or so
            np.where(labels == 1, 0.1, 0.3),  # of benign slides
            np.where(np.arange(40) % 2, 0.3, 0.1),  # of either
            np.where(np.arange(40) == 39, 0.3, 0.0),  # of one malignant slide alone: not significant
        ],
        axis=1,
    )
    assert enrichment(shares, labels) == pytest.approx([0.3095 / 0.419, 0.5, 0.5, 0.5])


def test_rare_tumour_is_found_from_labels_alone_and_chance_is_not():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 30)
    features = [np.concatenate((windows(rng, 0, 990), windows(rng, 8 * label, 10))) for label in labels]
    q, found = malignancy(features, labels, seed=0)
    assert found
    tumour = np.concatenate([slide[-10:] for slide in q[30:]])
    other = np.concatenate([*q[:30], *(slide[:-10] for slide in q[30:])])
    assert tumour.mean() > 0.9
    assert other.mean() < 0.51
    shuffled, found = malignancy(features, rng.permutation(labels), seed=0)
    assert not found
    assert {float(value) for slide in shuffled for value in slide} == {0.5}


def test_the_same_seed_finds_the_same_kinds():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 20)
    features = [np.concatenate((windows(rng, 0, 190), windows(rng, 8 * label, 10))) for label in labels]
    first, second = (malignancy(features, labels, seed=1)[0] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("alpha", [1.0, 2.0, 8.0])
def test_three_quarters_of_the_malignant_patches_lie_on_what_was_found(alpha):
    q, labels = [np.full(7, 0.5), np.array([0.5] * 990 + [0.8] * 10)], np.array([0, 1])
    assert 990 * background(q, labels, alpha) ** alpha == pytest.approx(10 * 0.8**alpha / 3)


def test_the_share_is_a_mean_over_slides_however_much_was_found_in_each():
    q, labels = [np.array([0.5] * (1000 - n) + [0.8] * n) for n in (1, 10, 300)], np.ones(3)
    elsewhere = background([*q, np.full(9, 0.5)], np.r_[labels, 1], alpha=2.0)  # in the last nothing was found
    found = np.array([n * 0.8**2 for n in (1, 10, 300)])
    assert np.mean(found / (found + np.array([999, 990, 700]) * elsewhere**2)) == pytest.approx(0.75)


def test_a_slide_without_windows_is_left_out():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 20)
    features = [np.concatenate((windows(rng, 0, 190), windows(rng, 8 * label, 10))) for label in labels]
    features[0] = features[39] = np.zeros((0, 6), np.float16)
    q, found = malignancy(features, labels, seed=0)
    assert found
    assert [len(slide) for slide in q] == [0] + [200] * 38 + [0]


@pytest.mark.parametrize(
    ("benign", "malignant", "enough"), [(20, 20, True), (5, 5, False), (40, 0, False), (0, 9, False)]
)
def test_a_few_slides_cannot_show_anything(benign, malignant, enough):
    assert attainable(np.repeat([0, 1], (benign, malignant))) == enough


def test_what_was_found_is_never_less_likely_than_the_rest():
    q, labels = [np.array([0.5] * 10 + [0.8] * 90)], np.array([1])
    assert background(q, labels, 2.0) == 0.5
    assert background([np.full(4, 0.5)], labels, 2.0) == 0.5
