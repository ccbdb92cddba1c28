"""The network of a job: a new U-Net, one that was trained before, another network, or a decoder on an encoder."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING

from wsi_hf.inference.loading import AutoModelForSemanticSegmentation
from wsi_hf.inference.network import default_image_processor
from wsi_hf.job.options import JobArguments
from wsi_hf.models.configuration_wsi_unet import WsiUNetConfig
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.models.modeling_wsi_unet import WsiUNetForSegmentation
from wsi_hf.training.arguments import WsiTrainingArguments
from wsi_hf.training.pretraining import copy_matching

LABELS = {0: "benign", 1: "malignant"}


def network_of(job: JobArguments, args: WsiTrainingArguments) -> tuple[PreTrainedModel, WsiImageProcessor]:
    """Give the network that is to be trained, and its image processor.

    Raises:
        ValueError: `model` is neither a network nor an encoder, or nothing of `init_from` fits.
        FileNotFoundError: there is no such model.
    """
    if job.model is None:
        config = WsiUNetConfig(
            filters=job.filters,
            depth=job.depth,
            mpp=job.mpp,
            smoothing=job.smoothing,
            guided_smoothing=job.guided_smoothing,
            beta_0=args.beta_0,
            beta_1=args.beta_1,
        )
        model: PreTrainedModel = WsiUNetForSegmentation(config)
        image_processor = WsiImageProcessor(mpp=job.mpp)
    else:
        model, image_processor = known_network(job.model, job.mpp)
    if job.init_from:
        print(copy_matching(model, job.init_from))
    return model, image_processor


def known_network(name: str, mpp: float) -> tuple[PreTrainedModel, WsiImageProcessor]:
    """A model of a folder or the Hub. Where its image processor says no mpp it is trained at `mpp` um a pixel."""
    try:
        config = AutoConfig.from_pretrained(name)
    except OSError as error:
        raise FileNotFoundError(f"{name} cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    if type(config) in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING:
        names = {str(label) for label in (config.id2label or {}).values()}
        labels = {} if names == set(LABELS.values()) else {"id2label": LABELS, "ignore_mismatched_sizes": True}
        model = AutoModelForSemanticSegmentation.from_pretrained(name, **labels)
    else:
        model = on_encoder(name, config, mpp)
        return model, default_image_processor(model)  # which has the encoder's colours
    return model, _image_processor(name, model, mpp)


def on_encoder(name: str, config: PreTrainedConfig, mpp: float) -> PreTrainedModel:
    """A new decoder on a pre-trained encoder."""
    from wsi_hf.models.modeling_wsi_encoder import WsiEncoderForSegmentation

    try:
        return WsiEncoderForSegmentation.from_encoder(name, mpp=mpp)
    except (AttributeError, KeyError) as error:
        raise ValueError(f"{name} ({type(config).__name__}) is no network or encoder for images: {error}") from error


def _image_processor(name: str, model: PreTrainedModel, mpp: float) -> WsiImageProcessor:
    """The model's own if it is one of this package; else one of its colours."""
    known: Any = None
    if not Path(name).is_dir() or (Path(name) / "preprocessor_config.json").exists():
        try:
            known = AutoImageProcessor.from_pretrained(name)
        except OSError:
            known = None
    if isinstance(known, WsiImageProcessor):
        return known
    colours: Any = {key: list(getattr(known, key)) for key in ("image_mean", "image_std") if getattr(known, key, None)}
    return WsiImageProcessor(mpp=getattr(model.config, "mpp", mpp), **colours)
