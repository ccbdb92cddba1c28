"""Pre-trained encoders of transformers and timm as one: an image in, its maps out."""

import os
from typing import Any

from torch import Tensor, nn
from transformers import AutoBackbone, AutoModel, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING_NAMES

TIMM = "timm_wrapper"
STAGES = 4
"""Layers of a vision transformer that the decoder sees, evenly spaced."""


class Encoder(nn.Module):
    """(B, 3, H, W) -> maps (B, C, H / stride, W / stride), from fine to coarse.

    Attributes:
        model: the encoder.
        channels: C of each map.
    """

    model: Any
    channels: list[int]

    def load(self, source: str | os.PathLike, config: PreTrainedConfig) -> dict[str, Any]:
        """Take the weights of a folder or repository; give what transformers says of them."""
        loaded, info = type(self.model).from_pretrained(source, config=config, output_loading_info=True)
        places = {name.replace(".base_layer.", "."): name for name in self.model.state_dict()}  # adapters wrap layers
        weights = {places[name]: tensor for name, tensor in loaded.state_dict().items()}
        self.model.load_state_dict(weights, strict=False)
        return info


class TokenEncoder(Encoder):
    """A vision transformer without a backbone class of its own (ViT, as Phikon): its layers' tokens as maps."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.model = AutoModel.from_config(config)
        self.layers = evenly_spaced(config.num_hidden_layers)
        self.channels = [config.hidden_size] * len(self.layers)
        self.patch = config.patch_size

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> maps (B, C, H / patch, W / patch)."""
        rows, columns = (side // self.patch for side in pixel_values.shape[2:])
        outputs = self.model(pixel_values, interpolate_pos_encoding=True, output_hidden_states=True)
        tokens = (outputs.hidden_states[layer][:, -rows * columns :] for layer in self.layers)
        return [t.transpose(1, 2).unflatten(2, (rows, columns)) for t in tokens]


class StageEncoder(Encoder):
    """An encoder of transformers' `AutoBackbone`: the maps of its `out_features`."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.model = AutoBackbone.from_config(config)
        self.channels = list(self.model.channels)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        return list(self.model(pixel_values).feature_maps)


class TimmEncoder(Encoder):
    """An encoder of timm, as many pathology foundation models are (UNI, H-optimus, Virchow): its stages, or layers."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        arguments = {name: value for name, value in (config.model_args or {}).items() if name != "num_classes"}
        if config.architecture.startswith("vit_"):
            arguments["dynamic_img_size"] = True
        config.model_args = arguments
        self.model = AutoModel.from_config(config)
        stages = self.model.timm_model.feature_info
        layered = len({stage["reduction"] for stage in stages}) == 1
        chosen = evenly_spaced(len(stages)) if layered else range(1, len(stages) + 1)[-STAGES:]
        self.indices = [stage - 1 for stage in chosen]
        self.channels = [stages[index]["num_chs"] for index in self.indices]
        config.patch_size = stages[-1]["reduction"]  # what sides are multiples of

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        return self.model.timm_model.forward_intermediates(
            pixel_values, indices=self.indices, output_fmt="NCHW", intermediates_only=True
        )

    def load(self, source: str | os.PathLike, config: PreTrainedConfig) -> dict[str, Any]:
        """Take the weights.

        Raises:
            ValueError: the configuration builds other layers than there are weights of: these would be left out.
        """
        info = super().load(source, config)
        names = (name.removeprefix("timm_model.") for name in (*info["missing_keys"], *info["unexpected_keys"]))
        if unlike := sorted(name for name in names if not name.startswith(("head", "fc", "classifier"))):
            raise ValueError(
                f"{source} holds other layers than {config.architecture} of timm: {', '.join(unlike[:3])}, ...; its "
                'config.json may lack model_args, such as {"init_values": 1e-5} for layer scale'
            )
        return info


def evenly_spaced(layers: int, count: int = STAGES) -> list[int]:
    """`count` of the layers 1..layers, the last among them: 12 -> 3, 6, 9, 12."""
    count = min(count, layers)
    return [round((i + 1) * layers / count) for i in range(count)]


def encoder_of(config: PreTrainedConfig) -> Encoder:
    """An encoder with random weights."""
    kind = TimmEncoder if config.model_type == TIMM else StageEncoder if _is_backbone(config) else TokenEncoder
    return kind(config)


def _is_backbone(config: PreTrainedConfig) -> bool:
    return config.model_type in MODEL_FOR_BACKBONE_MAPPING_NAMES


def choose_stages(config: PreTrainedConfig) -> None:
    """Where an `AutoBackbone` is to give its last stage alone, which is the default, take more of them."""
    if _is_backbone(config) and len(config.out_features) == 1:
        layers = len(config.stage_names) - 1
        stages = range(1, layers + 1) if layers < 6 else evenly_spaced(layers)
        config.out_features = [config.stage_names[i] for i in stages]
