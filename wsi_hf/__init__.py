"""Pixel-resolution segmentation of whole-slide images, trained from slide labels alone."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cohorts.camelyon16 import load_cohort, split_validation
    from .cohorts.synthetic import synthesize_cohort
    from .evaluation.froc.scoring import froc
    from .evaluation.roc import roc_auc
    from .models.configuration_wsi_encoder import WsiEncoderConfig
    from .models.configuration_wsi_unet import WsiUNetConfig
    from .models.divergence import beta_1_for, beta_divergence
    from .models.image_processing_wsi import WsiImageProcessor
    from .models.modeling_wsi_encoder import WsiEncoderForSegmentation
    from .models.modeling_wsi_unet import WsiUNetForReconstruction, WsiUNetForSegmentation, WsiUNetModel
    from .models.slide_head import slide_logits
    from .sampling.patch_sampler import PatchSampler
    from .sampling.probability_map import ProbabilityMap
    from .sampling.slide_sampler import SlideSampler
    from .segmentation.pipeline import WsiSegmentationPipeline
    from .segmentation.segmentation import segment_slide
    from .slides.slide import Slide
    from .slides.tissue import find_tissue
    from .training.arguments import WsiTrainingArguments
    from .training.trainer import WsiTrainer

__version__ = "0.1.0"

# Imported when first asked for: transformers' Trainer alone takes seconds.
_LAZY = {
    "PatchSampler": "sampling.patch_sampler",
    "ProbabilityMap": "sampling.probability_map",
    "Slide": "slides.slide",
    "SlideSampler": "sampling.slide_sampler",
    "WsiEncoderConfig": "models.configuration_wsi_encoder",
    "WsiEncoderForSegmentation": "models.modeling_wsi_encoder",
    "WsiImageProcessor": "models.image_processing_wsi",
    "WsiSegmentationPipeline": "segmentation.pipeline",
    "WsiTrainer": "training.trainer",
    "WsiTrainingArguments": "training.arguments",
    "WsiUNetConfig": "models.configuration_wsi_unet",
    "WsiUNetForReconstruction": "models.modeling_wsi_unet",
    "WsiUNetForSegmentation": "models.modeling_wsi_unet",
    "WsiUNetModel": "models.modeling_wsi_unet",
    "beta_1_for": "models.divergence",
    "beta_divergence": "models.divergence",
    "find_tissue": "slides.tissue",
    "froc": "evaluation.froc.scoring",
    "load_cohort": "cohorts.camelyon16",
    "roc_auc": "evaluation.roc",
    "segment_slide": "segmentation.segmentation",
    "slide_logits": "models.slide_head",
    "split_validation": "cohorts.camelyon16",
    "synthesize_cohort": "cohorts.synthetic",
}

if "wsi_hf_command" not in sys.modules:  # the console script's commands register for themselves
    import_module(".registration", __name__)


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "PatchSampler",
    "ProbabilityMap",
    "Slide",
    "SlideSampler",
    "WsiEncoderConfig",
    "WsiEncoderForSegmentation",
    "WsiImageProcessor",
    "WsiSegmentationPipeline",
    "WsiTrainer",
    "WsiTrainingArguments",
    "WsiUNetConfig",
    "WsiUNetForReconstruction",
    "WsiUNetForSegmentation",
    "WsiUNetModel",
    "beta_1_for",
    "beta_divergence",
    "find_tissue",
    "froc",
    "load_cohort",
    "roc_auc",
    "segment_slide",
    "slide_logits",
    "split_validation",
    "synthesize_cohort",
]
