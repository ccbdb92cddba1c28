"""Attention MIL on tiles (Ilse et al., ICML 2018), the common alternative, judged by the same rules.

    python benchmarks/attention_mil.py --encoder MODEL --cohort COHORT --output_dir OUT [--recipe mosaic] [--seed 0]

Each slide is a bag of tiles of 96 pixels at the model's mpp; a tile's features are the means of the frozen encoder's
features over it, at all scales, from a model of this package (--encoder) trained on the same slides. Gated attention
(128 units) and a linear classifier learn from the slides' labels; the epoch with the lowest validation loss counts.

A slide's score is its bag's. Its map is what the method gives: one value a tile, that of the tile as a bag of its own.
--recipe says the rules of FROC, as for examples/train_camelyon16.py; other arguments are not used.
"""

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit
from torch import Tensor, nn
from tqdm import tqdm

from wsi_hf import Slide, WsiImageProcessor, WsiUNetForSegmentation, find_tissue
from wsi_hf.cohorts.camelyon16 import load_cohort, open_slide, split_validation
from wsi_hf.evaluation.judging import JudgedMaps, JudgingSettings, judge_maps, outline_of
from wsi_hf.evaluation.records import SlideRecord
from wsi_hf.evaluation.results import evaluate_records
from wsi_hf.job.recipes import RECIPES
from wsi_hf.reports.cohort import write_evaluation

TILE_PX = 96
HALO_PX = 32  # read round a strip of tiles, so that the padding of convolutions stays outside
LEAST_TISSUE = 0.25  # of a tile


class GatedAttentionMIL(nn.Module):
    """A bag of feature vectors (N, C) -> its logit ()."""

    def __init__(self, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(0.25))
        self.value, self.gate = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.weight, self.classify = nn.Linear(hidden, 1), nn.Linear(hidden, 1)

    def forward(self, bag: Tensor) -> Tensor:
        x = self.embed(bag)
        attention = self.weight(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))).softmax(dim=0)
        return self.classify((attention * x).sum(dim=0)).squeeze()

    def of_each(self, bag: Tensor) -> Tensor:
        """Logit of each tile as a bag of its own: attention over one tile is 1."""
        return self.classify(self.embed(bag)).squeeze(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--cohort", required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--recipe", default="mosaic", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--cpu_threads", type=int)
    args, _ = parser.parse_known_args()
    if args.cpu_threads:
        torch.set_num_threads(args.cpu_threads)
    torch.manual_seed(args.seed)
    model = WsiUNetForSegmentation.from_pretrained(args.encoder).eval()
    cohort = split_validation(load_cohort(args.cohort), 0.125, seed=args.seed)
    bags = {row["slide_id"]: features(model, open_slide(row)) for row in tqdm(cohort, "features", unit="slide")}
    splits = {
        split: [(row["label"], bags[row["slide_id"]][0]) for row in cohort if row["split"] == split]
        for split in ("train", "validation")
    }
    mil = train(splits["train"], splits["validation"], args.epochs, args.seed)

    rules = RECIPES[args.recipe]
    settings = JudgingSettings(rules.get("detection_radius_um", 187.0))
    test = [row for row in cohort if row["split"] == "test"]
    records = {row["slide_id"]: judge(mil, model.config.mpp, row, *bags[row["slide_id"]], settings) for row in test}
    evaluation = evaluate_records(records, include_itc=rules.get("include_itc", False))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name, figure in write_evaluation(evaluation, args.output_dir, {"encoder": args.encoder}).items():
        if isinstance(figure, dict) and "value" in figure:
            print(f"{name}: {figure['value']:.3f}")


@torch.inference_mode()
def features(model: WsiUNetForSegmentation, slide: Slide) -> tuple[Tensor, np.ndarray]:
    """(features (N, C) of the tiles that hold tissue, which tiles those are: bool (rows, columns))."""
    processor = WsiImageProcessor(mpp=model.config.mpp)
    width, height = slide.size_px(model.config.mpp)
    rows, columns = height // TILE_PX, width // TILE_PX
    share = F.interpolate(
        torch.from_numpy(find_tissue(slide))[None, None].float(), (rows * 12, columns * 12), mode="nearest"
    )
    holds = F.avg_pool2d(share, 12)[0, 0].numpy() >= LEAST_TISSUE
    bag = []
    for row in range(rows):
        strip = (-HALO_PX, row * TILE_PX - HALO_PX), (columns * TILE_PX + 2 * HALO_PX, TILE_PX + 2 * HALO_PX)
        pixels = slide.read_region_px(*strip, model.config.mpp)
        bag.append(pooled(model, processor.normalize_batch(torch.from_numpy(pixels)[None])))
    return torch.stack(bag)[torch.from_numpy(holds)], holds


def pooled(model: WsiUNetForSegmentation, x: Tensor) -> Tensor:
    """A strip (1, 3, tile + 2 halo, n tile + 2 halo) -> the means of each tile's features at all scales (n, C)."""
    means, unet = [], model.unet
    for level, block in enumerate([*unet.encoder, unet.bottom]):
        x = block(F.max_pool2d(x, 2) if level else x)
        halo, tile = HALO_PX >> level, TILE_PX >> level
        means.append(F.avg_pool2d(x[:, :, halo:-halo, halo:-halo], tile)[0, :, 0].T)
    return torch.cat(means, dim=1).clone()


def train(bags: list[tuple[int, Tensor]], validation: list[tuple[int, Tensor]], epochs: int, seed: int):
    """Learn from (label, bag) pairs: a function of (a bag, whether each tile is meant) to logits."""
    every = torch.cat([bag for _, bag in bags])
    mean, std = every.mean(0), every.std(0) + 1e-6
    mil = GatedAttentionMIL(len(mean))
    optimizer = torch.optim.AdamW(mil.parameters(), lr=3e-4, weight_decay=1e-2)
    rng, best = np.random.default_rng(seed), (np.inf, copy.deepcopy(mil))
    for _ in (progress := tqdm(range(epochs), "attention MIL", unit="epoch")):
        mil.train()
        for place in rng.permutation(len(bags)):
            label, bag = bags[place]
            loss = F.binary_cross_entropy_with_logits(mil((bag - mean) / std), torch.tensor(float(label)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        mil.eval()
        with torch.no_grad():
            losses = [
                F.binary_cross_entropy_with_logits(mil((bag - mean) / std), torch.tensor(float(label)))
                for label, bag in validation
            ]
        found = float(torch.stack(losses).mean())
        progress.set_postfix(validation=f"{found:.3f}")
        best = min(best, (found, copy.deepcopy(mil)), key=lambda pair: pair[0])
    chosen = best[1]
    return lambda bag, each: (chosen.of_each if each else chosen)((bag - mean) / std)


@torch.no_grad()
def judge(mil, mpp: float, row, bag: Tensor, holds: np.ndarray, settings: JudgingSettings) -> SlideRecord:
    slide = open_slide(row)
    width, height = slide.size_px(mpp)
    tiles = np.full(holds.shape, -np.inf, np.float32)
    tiles[holds] = mil(bag, True).numpy()
    margins = np.full((height, width), -np.inf, np.float32)
    covered = np.kron(tiles, np.ones((TILE_PX, TILE_PX), np.float32))
    margins[: covered.shape[0], : covered.shape[1]] = covered
    record = judge_maps(row, slide, outline_of(row), JudgedMaps(margins, expit(margins), mpp), settings)
    score = float(mil(bag, False))
    return replace(record, margin=score, robust_margin=score)


if __name__ == "__main__":
    main()
