"""The beta-divergence between a slide's label and its predicted probability (paper, section 4)."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

# expm1 of more overflows float32; reached only for beta < -0.87 at logit margins near 100.
LARGEST_EXPONENT = 87.0


def beta_divergence(slide_logits: Tensor, labels: Tensor, beta: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """L_beta(p||q) = - sum_i p_i / beta_i * [(q_i / p_i)^beta_i - 1], the Kullback-Leibler divergence at beta = 0.

    With one-hot p and the paper's beta = (0, 1) a benign patch costs -log q_0 and a malignant one 1 - q_1: its gradient
    vanishes where the model is sure of "benign", so patches that wrongly inherited "malignant" are let go.

    Terms with p_i = 0 are 0 for every beta. Taken literally, beta_1 = 1 would leave -q_1 on benign patches and lose the
    robustness; the paper's own gradient has no such term. With u = log q - log p each term is
    -p * expm1(beta * u) / beta, in float32 at least, also under autocast.

    Args:
        slide_logits: (l0, l1) of each patch or slide, shape (B, 2).
        labels: class indices, shape (B,), or probabilities p of (benign, malignant), shape (B, 2).
        beta: (beta_0, beta_1), each <= 1 and not both 1; negative values are allowed.

    Returns:
        The divergence of each row, shape (B,).

    Raises:
        ValueError: beta is not admissible, or the shapes do not fit.
    """
    check_beta(beta)
    if slide_logits.dim() != 2 or slide_logits.shape[1] != 2:
        raise ValueError(f"beta_divergence takes slide logits of shape (B, 2), not {tuple(slide_logits.shape)}")
    with torch.autocast(slide_logits.device.type, enabled=False):
        wide = slide_logits.to(torch.promote_types(slide_logits.dtype, torch.float32))
        p = _probabilities(labels, wide)  # (B, 2)
        present = p > 0
        margin = wide[:, 1] - wide[:, 0]
        log_q = logsigmoid(torch.stack((-margin, margin), dim=1))  # unlike log_softmax exact where q_i is close to 1
        u = log_q - torch.where(present, p, 1.0).log()
        terms = torch.stack([_term(p[:, i], u[:, i], beta[i]) for i in (0, 1)], dim=1)
        return torch.where(present, terms, 0.0).sum(1)


def pixel_divergence(logits: Tensor, labels: Tensor, beta: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """The beta-divergence of every pixel by itself, as if each were a slide. Not in the paper.

    Args:
        logits: pixel logits (benign, malignant), shape (B, 2, H, W).
        labels: class indices of the patches, shape (B,).
        beta: as in `beta_divergence`.

    Returns:
        shape (B, H, W).
    """
    pixels = logits.movedim(1, 3)  # (B, H, W, 2)
    inherited = labels[:, None, None].expand(pixels.shape[:3])
    return beta_divergence(pixels.reshape(-1, 2), inherited.reshape(-1), beta).view(pixels.shape[:3])


def beta_1_for(theta_0: float, gamma: float, r: float = 0.5, beta_0: float = 0.0) -> float:
    """The beta_1 whose optimum is theta_0 where it should be (paper, section 4, as printed).

    A share gamma of the patches of malignant slides is in truth benign. On benign patches the Kullback-Leibler
    divergence then settles at q_1 = 1 / (1 + 1/gamma) (r = 1/2), not at 0. This beta_1 moves that optimum to theta_0:
    beta_1 = 1 + [(beta_0 - 1) log(1 - theta_0) - log((1 - r) gamma / r)] / log theta_0.

    Args:
        theta_0: the wanted optimum of q_1 on benign patches, 0 < theta_0 < 1.
        gamma: share of mislabelled patches among those labelled malignant, 0 < gamma <= 1.
        r: share of benign patches in training, 0 < r < 1.
        beta_0: the benign exponent.
    """
    for name, value in (("theta_0", theta_0), ("r", r)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie strictly between 0 and 1; got {value}")
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must lie in (0, 1]; got {gamma}")
    numerator = (beta_0 - 1) * math.log(1 - theta_0) - math.log((1 - r) * gamma / r)
    return 1 + numerator / math.log(theta_0)


def check_beta(beta: tuple[float, float]) -> None:
    if len(beta) != 2 or not all(b <= 1 for b in beta):
        raise ValueError(f"beta = (beta_0, beta_1) must both be <= 1 for the divergence to have a minimum; got {beta}")
    if beta[0] == beta[1] == 1:
        raise ValueError("beta = (1, 1) makes the divergence constant: nothing could be learned")


def _probabilities(labels: Tensor, like: Tensor) -> Tensor:
    if labels.dim() == 1 and len(labels) == len(like):
        return torch.nn.functional.one_hot(labels.long(), 2).to(like.dtype)
    if labels.shape == like.shape:
        return labels.to(like.dtype)
    raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit slide logits of shape {tuple(like.shape)}")


def _term(p: Tensor, u: Tensor, beta: float) -> Tensor:
    if beta == 0:
        return -p * u
    return -p * torch.expm1((beta * u).clamp(max=LARGEST_EXPONENT)) / beta
