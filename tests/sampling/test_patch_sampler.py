import numpy as np
import pytest
import torch
from scipy import stats

from wsi_hf.sampling.patch_sampler import PatchSampler
from wsi_hf.sampling.probability_map import ProbabilityMapBuilder


def sampler(margin: torch.Tensor, alpha: float, map_stride: int) -> PatchSampler:
    height, width = margin.shape
    builder = ProbabilityMapBuilder("slide", (width, height), 1.0, None, alpha, map_stride, 8, weights_step=0)
    builder.add(0, 0, margin)
    return PatchSampler(builder.finish())


@pytest.mark.parametrize(("alpha", "largest"), [(0, 3), (1, 3), (2, 3), (2, 30), (8, 1)])
def test_drawn_pixels_pass_a_chi_square_test_against_q_to_the_alpha(alpha, largest):
    margin = (torch.rand(10, 13, generator=torch.Generator().manual_seed(1)) * 2 - 1) * largest
    expected = torch.softmax(alpha * torch.nn.functional.logsigmoid(margin.double()).flatten(), 0).numpy()
    n = 100_000
    drawn = sampler(margin, alpha, map_stride=1).draw(n, np.random.default_rng(0))
    counts = np.bincount(drawn[:, 1] * 13 + drawn[:, 0], minlength=130)
    rare = expected * n < 5  # pooled, as the test demands
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum()) * n
    kept = wanted > 0
    assert stats.chisquare(observed[kept], wanted[kept], sum_check=False).pvalue > 1e-3


def test_a_pixel_inside_a_cell_is_uniform_also_where_the_slide_cuts_the_cell():
    drawn = sampler(torch.zeros(4, 6), alpha=2, map_stride=4).draw(24_000, np.random.default_rng(0))
    counts = np.bincount(drawn[:, 1] * 6 + drawn[:, 0], minlength=24)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_same_generator_draws_the_same_pixels():
    s = sampler(torch.randn(10, 10), alpha=2, map_stride=2)
    assert np.array_equal(s.draw(50, np.random.default_rng(3)), s.draw(50, np.random.default_rng(3)))


def test_when_nothing_has_mass_that_a_float_can_hold_tissue_is_still_drawn():
    drawn = sampler(torch.full((4, 4), -80.0), alpha=8, map_stride=1).draw(1000, np.random.default_rng(0))
    assert len(np.unique(drawn, axis=0)) == 16


def test_centres_off_the_tissue_lie_on_glass_or_beyond_the_border():
    tissue = np.zeros((10, 13), bool)
    tissue[2:9, 3:11] = True
    builder = ProbabilityMapBuilder("slide", (13, 10), 1.0, tissue, 2.0, 1, 8, weights_step=0)
    builder.add(0, 0, torch.zeros(10, 13))
    draws, rng = PatchSampler(builder.finish()), np.random.default_rng(0)
    drawn = np.array([draws.draw_off_tissue(2, rng) for _ in range(2000)])
    padded = np.pad(tissue, 2)
    seen = np.zeros_like(padded)
    seen[drawn[:, 1] + 2, drawn[:, 0] + 2] = True
    assert np.array_equal(seen, ~padded)
