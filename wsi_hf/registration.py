"""Tells transformers of this package: its model for the Auto classes, its task for `pipeline`."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation
from transformers.pipelines import PIPELINE_REGISTRY

from wsi_hf.inference.loading import AutoModelForSemanticSegmentation as CheckedAutoModel
from wsi_hf.models.configuration_wsi_encoder import WsiEncoderConfig
from wsi_hf.models.configuration_wsi_unet import WsiUNetConfig
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.models.modeling_wsi_encoder import WsiEncoderForSegmentation
from wsi_hf.models.modeling_wsi_unet import WsiUNetForSegmentation, WsiUNetModel
from wsi_hf.segmentation.pipeline import WsiSegmentationPipeline

AutoConfig.register(WsiUNetConfig.model_type, WsiUNetConfig, exist_ok=True)
AutoModel.register(WsiUNetConfig, WsiUNetModel, exist_ok=True)
AutoModelForSemanticSegmentation.register(WsiUNetConfig, WsiUNetForSegmentation, exist_ok=True)
AutoConfig.register(WsiEncoderConfig.model_type, WsiEncoderConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(WsiEncoderConfig, WsiEncoderForSegmentation, exist_ok=True)
for config in (WsiUNetConfig, WsiEncoderConfig):
    AutoImageProcessor.register(config, image_processor_classes={"pil": WsiImageProcessor}, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    "wsi-segmentation",
    pipeline_class=WsiSegmentationPipeline,
    pt_model=(CheckedAutoModel,),
    type="image",
)
