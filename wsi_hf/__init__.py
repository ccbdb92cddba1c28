"""Pixel-resolution segmentation of whole-slide images, trained from slide labels alone."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation

from .models.configuration_wsi_unet import WsiUNetConfig
from .models.divergence import beta_1_for, beta_divergence
from .models.image_processing_wsi import WsiImageProcessor
from .models.modeling_wsi_unet import WsiUNetForReconstruction, WsiUNetForSegmentation, WsiUNetModel
from .models.slide_head import slide_logits

__version__ = "0.1.0"

AutoConfig.register(WsiUNetConfig.model_type, WsiUNetConfig, exist_ok=True)
AutoModel.register(WsiUNetConfig, WsiUNetModel, exist_ok=True)
AutoModelForSemanticSegmentation.register(WsiUNetConfig, WsiUNetForSegmentation, exist_ok=True)
AutoImageProcessor.register(WsiUNetConfig, image_processor_classes={"pil": WsiImageProcessor}, exist_ok=True)

__all__ = [
    "WsiImageProcessor",
    "WsiUNetConfig",
    "WsiUNetForReconstruction",
    "WsiUNetForSegmentation",
    "WsiUNetModel",
    "beta_1_for",
    "beta_divergence",
    "slide_logits",
]
