"""Evaluation during a training: every slide segmented, shared out over the ranks."""

import logging

import torch
from accelerate.utils import gather_object
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.reading import Damage
from wsi_hf.inference.streaming import stream_tiles
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.mapping.slide_queue import default_file
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.unreadable import readable
from wsi_hf.slides.slide import Slide, SlideError

logger = logging.getLogger(__name__)


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
    there = [(label, margin) for label, margin in margins if margin is not None]
    if len({label for label, _ in there}) < 2:
        return float("nan")
    labels, scores = zip(*there, strict=True)
    return float(roc_auc_score(labels, scores))


def evaluated(slides: list[TrainingSlide]) -> list[TrainingSlide]:
    """Those that can be read; the others are told, and a training does not end for them.

    Raises:
        SlideError: none can be.
    """
    there = [info for info in slides if readable(info.path, info.mpp)]
    if lost := [info.slide_id for info in slides if info not in there]:
        logger.warning("%d of %d slides cannot be read and are not evaluated: %s", len(lost), len(slides), lost)
    if not there:
        raise SlideError("no slide of the evaluation can be read")
    return there


def _largest_margin(network: PixelNetwork, settings: MappingSettings, info: TrainingSlide) -> float | None:
    """The largest l1 - l0 on a slide's tissue, as far as it can be read; None if nowhere."""
    tissue = settings.store.load_map(default_file(info)).tissue()
    damages: list[Damage] = []
    try:
        slide = Slide(info.path, mpp=info.mpp)
        tiles = stream_tiles(
            network, slide, tissue=tissue, cell_px=settings.map_stride, tile_size=settings.tile_size,
            on_damage=damages.append,
        )  # fmt: skip
        margins = [float((tile.logits[1] - tile.logits[0])[tile.tissue].max()) for tile in tiles if tile.tissue.any()]
    except SlideError as error:
        logger.warning("%s is not evaluated: %s", info.slide_id, error)
        return None
    if damages:
        logger.warning("%s: %d spots cannot be read and are not evaluated", info.slide_id, len(damages))
    return max(margins, default=None)


def mean_over_ranks(losses: list[tuple[torch.Tensor, int]]) -> float:
    """The mean of all ranks' batch losses, each with its number of patches."""
    gathered = gather_object([(float(loss), n) for loss, n in losses])
    return sum(loss * n for loss, n in gathered) / sum(n for _, n in gathered)
