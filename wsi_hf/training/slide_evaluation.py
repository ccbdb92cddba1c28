"""Evaluation during a training: every slide segmented, shared out over the ranks."""

import torch
from accelerate.utils import gather_object
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.streaming import stream_tiles
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.mapping.slide_queue import default_file
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.slides.slide import Slide


def slide_auc(
    model: PreTrainedModel, image_processor: WsiImageProcessor, settings: MappingSettings, rank: int, ranks: int
) -> float:
    """ROC AUC of the slides' largest pixel margin; NaN where a class is missing.

    Args:
        settings: of the slides, whose tissue is found.
        rank, ranks: this process's number among those that share them.
    """
    network = PixelNetwork(model, image_processor)
    mine = tqdm(settings.slides[rank::ranks], desc="Evaluating", unit="slide", leave=False, disable=rank > 0)
    margins = gather_object([(info.label, _largest_margin(network, settings, info)) for info in mine])
    labels, scores = zip(*margins, strict=True)
    return float(roc_auc_score(labels, scores)) if len(set(labels)) == 2 else float("nan")


def _largest_margin(network: PixelNetwork, settings: MappingSettings, info: TrainingSlide) -> float:
    """The largest l1 - l0 on a slide's tissue."""
    tissue = settings.store.load_map(default_file(info)).tissue()
    tiles = stream_tiles(network, Slide(info.path, mpp=info.mpp), tissue=tissue, tile_size=settings.tile_size)
    return max(float((tile.logits[1] - tile.logits[0])[tile.tissue].max()) for tile in tiles)


def mean_over_ranks(losses: list[tuple[torch.Tensor, int]]) -> float:
    """The mean of all ranks' batch losses, each with its number of patches."""
    gathered = gather_object([(float(loss), n) for loss, n in losses])
    return sum(loss * n for loss, n in gathered) / sum(n for _, n in gathered)
