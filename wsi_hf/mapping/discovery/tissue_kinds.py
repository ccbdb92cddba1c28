"""Kinds of tissue that malignant slides hold more of: where to look first, found from slide labels alone.

Not in the paper. Where tumour is 1 % of the tissue, one uniform patch in forty holds any, and a network that starts
from such patches finds nothing: what any two slides differ by weighs more. But tumour makes up a *kind* of tissue that
nearly every malignant slide has some of and benign slides have none of. So windows of all slides are clustered by their
texture, without labels; then, kind by kind, the slides' shares are compared between the two classes.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from scipy.stats import mannwhitneyu
from skimage.color import hed_from_rgb
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

BLOCK_PX = 16
"""Side of the blocks that statistics are taken over; a window is 3 x 3 blocks, centred on each."""
LEVELS = 4
"""Scales of the texture, each twice as coarse as the one before: 1 to 8 pixels."""
KINDS = 500
"""Most clusters. Fewer mix rare tumour with other tissue, more split it until no share is significant."""
SMALLEST_KIND = 100
"""Windows of a cluster, at least, on average."""
CLUSTERINGS = 4
"""From different starts; what they say of a window is averaged."""
SIGNIFICANCE = 0.05
"""Of all kinds of all clusterings together (Bonferroni)."""
FOUND_SHARE = 0.75
"""Of the patches of malignant slides in which something was found, so many lie on it."""
LARGEST_Q, SMALLEST_Q = 0.95, 1e-6
"""Of a kind that no benign slide holds any of; of other tissue."""
FITTED_WINDOWS = 1_000_000
"""Most windows, drawn from all slides alike, that clusters are fitted to."""


def texture(pixels: Tensor) -> Tensor:
    """Describe the texture round each block, in the densities of haematoxylin and eosin.

    A pyramid of differences between pixels and their 2 x 2 mean: the mean absolute and the root mean square positive
    difference of each level, and what is left at the top. Local to the window, so tiles join without a seam.

    Args:
        pixels: uint8 (H, W, 3); multiples of `BLOCK_PX`, with a margin of one block on each side.

    Returns:
        (H / 16 - 2, W / 16 - 2, 18).
    """
    density = -torch.log((pixels.float() + 1) / 256)
    stains = (density @ torch.tensor(hed_from_rgb[:, :2], dtype=torch.float32)).permute(2, 0, 1)[None]  # (1, 2, H, W)
    statistics = []
    for level in range(LEVELS):
        coarse = F.avg_pool2d(stains, 2)
        difference, side = stains - F.interpolate(coarse, scale_factor=2), BLOCK_PX >> level
        statistics += [
            F.avg_pool2d(difference.abs(), side),
            F.avg_pool2d(difference.clamp(min=0).square(), side).sqrt(),
        ]
        stains = coarse
    blocks = torch.cat([*statistics, stains], dim=1)  # (1, 18, H / 16, W / 16)
    return F.avg_pool2d(blocks, 3, stride=1)[0].permute(1, 2, 0)


def malignancy(features: list[np.ndarray], labels: np.ndarray, seed: int) -> tuple[list[np.ndarray], int]:
    """How much more malignant slides hold of each window's kind of tissue than benign ones.

    Args:
        features: of the windows of each slide, (n, F), relative to the slide's own median; n may be 0.
        labels: 0 (benign) or 1 (malignant) of each slide.
        seed: of the clusters.

    Returns:
        Q of each slide's windows, float32 (n,): a / (a + b) where a and b are the mean shares of its kind in malignant
        and in benign slides, if a is significantly larger, else 1/2; a mean over `CLUSTERINGS`. And how many kinds were
        significant.
    """
    filled = np.array([len(windows) > 0 for windows in features])
    q, found = [np.full(len(windows), 0.5, np.float32) for windows in features], 0
    if not attainable(labels[filled]):
        return q, found
    sample = _sample(features, seed)
    count = max(1, min(KINDS, len(sample) // SMALLEST_KIND))
    # one thread each: sums in another order are other clusters
    with threadpool_limits(1), ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for clustering in range(CLUSTERINGS):
            start = int(np.random.SeedSequence([seed, 6, clustering]).generate_state(1)[0])
            clusters = MiniBatchKMeans(count, random_state=start, batch_size=8192, n_init=1)
            kinds = make_pipeline(StandardScaler(), PCA(whiten=True), clusters).fit(sample)
            members = list(pool.map(lambda windows, kinds=kinds: _members(kinds, windows), features))
            shares = [np.bincount(m, minlength=count) / len(m) for m in members if len(m)]
            q_of_kind = enrichment(np.stack(shares), labels[filled])
            found += int((q_of_kind > 0.5).sum())
            for slide, kind in enumerate(members):
                q[slide] += ((q_of_kind[kind] - 0.5) / CLUSTERINGS).astype(np.float32)
    return q, found


def attainable(labels: np.ndarray) -> bool:
    """Whether there are slides enough for any kind to be significant: about a dozen of each class."""
    malignant = int((labels == 1).sum())
    if not 0 < malignant < len(labels):
        return False
    best = np.r_[np.zeros(len(labels) - malignant), 1 + np.arange(malignant)]  # all malignant slides, no benign one
    p = mannwhitneyu(best[len(labels) - malignant :], best[: len(labels) - malignant], alternative="greater").pvalue
    return bool(p < SIGNIFICANCE / (CLUSTERINGS * KINDS))


def enrichment(shares: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Q of each kind: a / (a + b) where malignant slides hold significantly more of it than benign ones, else 1/2.

    Args:
        shares: of each kind in each slide, (slides, kinds).
        labels: of the slides, (slides,).

    Returns:
        (kinds,).
    """
    malignant, benign = shares[labels == 1], shares[labels == 0]
    p = mannwhitneyu(malignant, benign, alternative="greater", axis=0).pvalue
    a, b = malignant.mean(0), benign.mean(0)
    significant = p < SIGNIFICANCE / (CLUSTERINGS * shares.shape[1])
    return np.where(significant, np.clip(a / np.maximum(a + b, 1e-12), 0.5, LARGEST_Q), 0.5)


def background(q: list[np.ndarray], labels: np.ndarray, alpha: float) -> float:
    """The Q of all other tissue with which `FOUND_SHARE` of the patches lie on the kinds found.

    Of the patches of malignant slides that hold any: each slide gives as many patches, however much was found in it.
    """
    malignant = [windows for windows, label in zip(q, labels, strict=True) if label == 1]
    found = np.array([np.sum(w[w > 0.5].astype(np.float64) ** alpha) for w in malignant])
    others = np.array([np.sum(w <= 0.5) for w in malignant])[found > 0]
    found = found[found > 0]
    if not len(found) or not alpha:
        return 0.5

    def too_few(log_q: float) -> float:
        return FOUND_SHARE - float(np.mean(found / (found + others * np.exp(alpha * log_q))))

    least, most = np.log(SMALLEST_Q), np.log(0.5)
    if too_few(most) <= 0:
        return 0.5
    return SMALLEST_Q if too_few(least) >= 0 else float(np.exp(brentq(too_few, least, most)))


def _members(kinds: Pipeline, windows: np.ndarray) -> np.ndarray:
    return kinds.predict(windows.astype(np.float32)) if len(windows) else np.zeros(0, np.int32)


def _sample(features: list[np.ndarray], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 4])
    most = max(1, FITTED_WINDOWS // len(features))
    return np.concatenate(
        [
            windows if len(windows) <= most else windows[np.sort(rng.choice(len(windows), most, replace=False))]
            for windows in features
        ]
    ).astype(np.float32)
