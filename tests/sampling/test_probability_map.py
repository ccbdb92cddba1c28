import math

import numpy as np
import pytest
import torch

from wsi_hf.sampling.patch_sampler import PatchSampler
from wsi_hf.sampling.probability_map import ProbabilityMap, ProbabilityMapBuilder, decode_cells, default_map


def build(margin: torch.Tensor, alpha: float, map_stride: int = 1, tissue: np.ndarray | None = None) -> ProbabilityMap:
    """The map of a slide whose margins are given, taken in as regions of 16 x 24 pixels, kept in tiles of 32."""
    height, width = margin.shape
    builder = ProbabilityMapBuilder("slide", (width, height), 1.0, tissue, alpha, map_stride, 32, weights_step=7)
    for y in range(0, height, 16):
        for x in range(0, width, 24):
            builder.add(x, y, margin[y : y + 16, x : x + 24])
    return builder.finish()


def distribution(probability_map: ProbabilityMap) -> np.ndarray:
    """P(pixel) that a map of stride 1 stands for, (H, W) float64."""
    width, height = probability_map.size_px
    p = np.zeros((height + 32, width + 32))
    tiles = np.exp(probability_map.log_mass - probability_map.log_mass.max())
    for (x, y), mass, codes in zip(probability_map.origins_px, tiles, probability_map.codes, strict=True):
        cells = decode_cells(codes)
        p[y : y + 32, x : x + 32] = mass * cells / cells.sum()
    return p[:height, :width] / p.sum()


@pytest.mark.parametrize("alpha", [0, 1, 2, 8])
@pytest.mark.parametrize("largest", [1, 30])
def test_cells_follow_q_to_the_alpha(alpha, largest):
    margin = (torch.rand(50, 70, generator=torch.Generator().manual_seed(0)) * 2 - 1) * largest
    expected = torch.softmax(alpha * torch.nn.functional.logsigmoid(margin.double()).flatten(), 0).view(50, 70).numpy()
    total_variation = np.abs(distribution(build(margin, alpha)) - expected).sum() / 2
    assert total_variation < 1e-3


def test_a_cell_holds_the_sum_over_its_pixels():
    margin = torch.tensor([[0.0, 1.0, 2.0, -1.0], [3.0, -3.0, 0.5, 0.0]])
    built = build(margin, alpha=2, map_stride=2)
    masses = torch.sigmoid(margin.double()).square().view(1, 2, 2, 2).sum((1, 3)).flatten().numpy()
    cells = decode_cells(built.codes[0])[0, :2]
    assert cells / cells.sum() == pytest.approx(masses / masses.sum(), rel=1e-3)
    assert math.exp(built.log_mass[0]) == pytest.approx(masses.sum(), rel=1e-6)


def test_sum_of_q_and_largest_margin_are_exact():
    margin = torch.tensor([[0.0, 1.0], [40.0, -2.0]])
    built = build(margin, alpha=2)
    assert built.sum_q == pytest.approx(torch.sigmoid(margin.double()).sum().item(), rel=1e-6)
    assert built.largest_margin == 40.0


def test_tiny_probabilities_keep_their_proportions():
    margin = torch.full((4, 4), -60.0)
    margin[1, 2] = -60.0 + math.log(3)
    p = distribution(build(margin, alpha=8))
    assert p[1, 2] / p[0, 0] == pytest.approx(3**8, rel=1e-3)


def test_glass_has_no_mass_and_a_tile_without_tissue_is_not_kept():
    tissue = np.zeros((40, 80), bool)
    tissue[3, 5] = True
    built = build(torch.zeros(40, 80), alpha=2, tissue=tissue)
    assert built.codes.shape == (1, 32, 32)
    assert np.argwhere(distribution(built)).tolist() == [[3, 5]]
    assert built.tissue().sum() == 1
    assert built.tissue()[3, 5]


def test_a_map_survives_the_disk(tmp_path):
    built = build(torch.randn(50, 70), alpha=2)
    built.save(tmp_path / "map.safetensors")
    loaded = ProbabilityMap.load(tmp_path / "map.safetensors")
    for name in ("slide_id", "size_px", "mpp", "alpha", "map_stride", "weights_step", "sum_q", "largest_margin"):
        assert getattr(loaded, name) == getattr(built, name), name
    for name in ("origins_px", "log_mass", "codes"):
        assert np.array_equal(getattr(loaded, name), getattr(built, name)), name
    assert [path.name for path in tmp_path.iterdir()] == ["map.safetensors"]


def test_logits_that_are_not_finite_name_the_slide():
    with pytest.raises(ValueError, match=r"slide: .*NaN"):
        build(torch.full((4, 4), math.nan), alpha=2)


def test_a_slide_without_tissue_is_an_error_not_an_empty_map():
    with pytest.raises(ValueError, match="tissue"):
        build(torch.zeros(4, 4), alpha=2, tissue=np.zeros((4, 4), bool))


def test_the_default_map_is_uniform_over_the_tissue_whatever_alpha():
    tissue = np.zeros((2, 2), bool)
    tissue[0, 1] = True
    uniform = default_map("slide", (60, 40), 1.0, tissue, alpha=8, map_stride=4, tile_size=32)
    assert uniform.sum_q == 0.5 * 32 * 20  # columns 28..60 (cells whose centre is not left of 30), rows 0..20
    draws = PatchSampler(uniform).draw(4000, np.random.default_rng(0))
    assert draws.min(axis=0).tolist() == [28, 0]
    assert draws.max(axis=0).tolist() == [59, 19]
