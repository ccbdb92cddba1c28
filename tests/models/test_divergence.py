import math

import pytest
import torch

from wsi_hf import beta_1_for, beta_divergence

BENIGN, MALIGNANT = torch.tensor([0]), torch.tensor([1])


def logits_of(q_1: float) -> torch.Tensor:
    return torch.tensor([[math.log(1 - q_1), math.log(q_1)]], dtype=torch.float64)


def test_paper_setting_is_log_loss_for_benign_and_one_minus_q_for_malignant():
    assert beta_divergence(logits_of(0.2), BENIGN).item() == pytest.approx(-math.log(0.8))
    assert beta_divergence(logits_of(0.2), MALIGNANT).item() == pytest.approx(1 - 0.2)


def test_beta_zero_is_the_kullback_leibler_divergence():
    p = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    expected = 0.3 * math.log(0.3 / 0.8) + 0.7 * math.log(0.7 / 0.2)
    assert beta_divergence(logits_of(0.2), p, beta=(0.0, 0.0)).item() == pytest.approx(expected)


@pytest.mark.parametrize("beta", [(0.5, -1.0), (-0.3, 0.9), (0.0, 0.61), (1.0, 0.0)])
def test_soft_labels_follow_the_printed_formula(beta):
    p, q = (0.25, 0.75), (0.6, 0.4)
    expected = -sum(
        pi * math.log(qi / pi) if b == 0 else pi / b * ((qi / pi) ** b - 1)
        for pi, qi, b in zip(p, q, beta, strict=True)
    )
    actual = beta_divergence(logits_of(0.4), torch.tensor([p], dtype=torch.float64), beta)
    assert actual.item() == pytest.approx(expected)


def test_the_limit_beta_to_zero_joins_its_own_branch():
    near = beta_divergence(logits_of(0.2), MALIGNANT, beta=(0.0, 1e-6))
    assert near.item() == pytest.approx(beta_divergence(logits_of(0.2), MALIGNANT, beta=(0.0, 0.0)).item(), rel=1e-5)


def test_the_absent_class_costs_nothing_also_at_beta_one():
    for q in (0.01, 0.5, 0.99):
        assert beta_divergence(logits_of(q), BENIGN, beta=(0.0, 1.0)).item() == pytest.approx(-math.log(1 - q))


@pytest.mark.parametrize("beta", [(0.0, 1.0), (0.0, 0.0), (-1.0, 0.5), (0.61, -0.5)])
@pytest.mark.parametrize("margin", [-100.0, -17.0, 0.0, 17.0, 100.0])
def test_value_and_gradient_stay_finite_at_large_margins(beta, margin):
    logits = torch.tensor([[0.0, margin], [0.0, margin], [0.0, margin]], requires_grad=True)
    loss = beta_divergence(logits, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]]), beta)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


def test_small_losses_keep_their_digits():
    loss = beta_divergence(torch.tensor([[20.0, 0.0]]), BENIGN)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-5)


def test_computed_in_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = beta_divergence(torch.tensor([[3.0, 0.0]], dtype=torch.bfloat16), BENIGN)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-3)), rel=1e-5)


@pytest.mark.parametrize("beta", [(0.0, 1.1), (2.0, 0.0), (1.0, 1.0)])
def test_beta_without_a_minimum_is_refused(beta):
    with pytest.raises(ValueError, match="beta"):
        beta_divergence(logits_of(0.5), BENIGN, beta)


def test_beta_1_of_the_paper():
    assert beta_1_for(theta_0=0.05, gamma=0.33) == pytest.approx(0.61, abs=0.005)


def optimum(gamma: float, beta: tuple[float, float], r: float = 0.5) -> float:
    """The q_1 at which benign patches settle when a share gamma of the malignant labels is wrong, found on a grid."""
    q = torch.linspace(1e-4, 0.9, 100_000, dtype=torch.float64)
    logits = torch.stack(((1 - q).log(), q.log()), dim=1)
    ones = torch.ones(len(q), dtype=torch.long)
    risk = r * beta_divergence(logits, 0 * ones, beta) + (1 - r) * gamma * beta_divergence(logits, ones, beta)
    return q[risk.argmin()].item()


def test_kullback_leibler_settles_at_one_over_one_plus_one_over_gamma():
    assert optimum(0.33, (0.0, 0.0)) == pytest.approx(1 / (1 + 1 / 0.33), abs=1e-4)


def test_beta_1_of_the_formula_moves_the_optimum_to_theta_0():
    assert optimum(0.33, (0.0, beta_1_for(theta_0=0.05, gamma=0.33))) == pytest.approx(0.05, abs=1e-3)
