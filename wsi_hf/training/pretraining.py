"""Pre-training as an auto-encoder (paper, section 6), and what of it carries over to the segmenter."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import default_collate
from transformers import PreTrainedModel
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from wsi_hf.hub.run_files import CONFIG, SUMMARY, WEIGHTS, read_json
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.models.configuration_wsi_unet import WsiUNetConfig
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.models.modeling_wsi_unet import WsiUNetForReconstruction, WsiUNetForSegmentation
from wsi_hf.training.arguments import WsiTrainingArguments
from wsi_hf.training.run import patch_stream
from wsi_hf.training.trainer import WsiTrainer

AUTOENCODER = "_autoencoder"
"""Folder of the auto-encoder that a training began with; a push to the Hub leaves it out."""


class WsiPretrainer(WsiTrainer):
    """Trains the U-Net without lateral skips to reconstruct patches drawn uniformly over the tissue; no label is read.

    Args:
        model: the auto-encoder.
        train_dataset, eval_dataset: slides, with columns slide_id, path and, for files without one, mpp.
    """

    def __init__(
        self,
        model: WsiUNetForReconstruction,
        args: WsiTrainingArguments,
        train_dataset: datasets.Dataset,
        eval_dataset: datasets.Dataset | None = None,
        **kwargs,
    ):
        args = copy.copy(args)
        args.dynamic_sampling, args.glass_weight = False, 0.0
        if args.metric_for_best_model == "slide_auc":
            args.metric_for_best_model, args.greater_is_better = "loss", False
        super().__init__(
            model, args, without_labels(train_dataset), eval_dataset and without_labels(eval_dataset), **kwargs
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The mean squared error of the reconstruction, in units of the normalised colours."""
        outputs = model(pixel_values=self.pixel_values(model, inputs))
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    @torch.no_grad()
    def reconstruct(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The first patches of the evaluation slides as they are and as the network gives them, uint8 (n, H, W, 3)."""
        patches = patch_stream(self.args, self._evaluation_settings(None, "eval"), 2, dynamic=False)
        batch = self._prepare_inputs(default_collate([patches[i] for i in range(n)]))
        model = self.model.eval()
        outputs = model(pixel_values=self.pixel_values(model, batch))
        mean, std = torch.tensor(self.image_processor.image_mean), torch.tensor(self.image_processor.image_std)
        colours = outputs.reconstruction.float().cpu().permute(0, 2, 3, 1) * std + mean
        return batch["pixel_values"].cpu().numpy(), (255 * colours).clamp(0, 255).round().byte().numpy()

    def _measure(self, settings: MappingSettings) -> dict[str, float]:
        return {"loss": self._uniform_loss(settings), "slides": len(settings.slides)}


def pretrain_first(
    model: PreTrainedModel,
    args: WsiTrainingArguments,
    train_dataset: datasets.Dataset,
    image_processor: WsiImageProcessor,
    steps: int,
) -> "CopyReport":
    """Train the model's network as an auto-encoder on its own slides, and start the model from that.

    Args:
        args: of the training that follows; batches, patches, learning rate and augmentation are the same. The
            auto-encoder goes into its `output_dir`, under `AUTOENCODER`.
        steps: of the optimiser. Stopped meanwhile, it begins again the next time.

    Raises:
        ValueError: the model is none of this package's U-Nets.
    """
    if not isinstance(model, WsiUNetForSegmentation):
        raise ValueError(f"pretrain_steps is for a U-Net; {type(model).__name__} comes from a training of its own")
    args, folder = copy.copy(args), Path(str(args.output_dir)) / AUTOENCODER
    args.output_dir, args.max_steps, args.mapping, args.push_to_hub = str(folder), steps, "inline", False
    args.save_strategy, args.eval_strategy = SaveStrategy.NO, IntervalStrategy.NO
    autoencoder = WsiUNetForReconstruction(cast(WsiUNetConfig, copy.deepcopy(model.config)))
    trainer = WsiPretrainer(autoencoder, args, train_dataset, processing_class=image_processor)
    trainer.train()
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    return copy_matching(model, folder)


def without_labels(dataset: datasets.Dataset) -> datasets.Dataset:
    """The slides with every second one called malignant, so that half of the stream comes from either half of them."""
    columns = [name for name in ("slide_id", "path", "mpp") if name in dataset.column_names]
    return dataset.select_columns(columns).add_column("label", [i % 2 for i in range(len(dataset))])


@dataclass(frozen=True)
class CopyReport:
    """Names of the tensors that were copied, of those whose shape differs, and of those that the source lacks."""

    copied: list[str]
    other_shape: list[str]
    missing: list[str]

    def __str__(self) -> str:
        lines = [f"{len(self.copied)} tensors copied"]
        for names, why in ((self.other_shape, "of another shape"), (self.missing, "not in the source")):
            if names:
                lines.append(f"{len(names)} left as they were, {why}: {', '.join(names)}")
        return "; ".join(lines)


@torch.no_grad()
def copy_matching(model: nn.Module, source: str | Path) -> CopyReport:
    """Copy into the model every tensor of a checkpoint that has the same name and shape; its configuration tells so.

    Args:
        source: folder or Hub repository with a model.safetensors, such as a pre-trained auto-encoder.

    Raises:
        ValueError: nothing matches.
    """
    folder = Path(source) if Path(source).is_dir() else Path(snapshot_download(str(source)))
    weights = load_file(folder / WEIGHTS)
    copied, other_shape, missing = [], [], []
    for name, tensor in model.state_dict().items():
        if name not in weights:
            missing.append(name)
        elif weights[name].shape != tensor.shape:
            other_shape.append(name)
        else:
            tensor.copy_(weights[name])
            copied.append(name)
    if not copied:
        raise ValueError(f"{source} has no tensor of this model's names and shapes; it is of another architecture")
    if isinstance(model, PreTrainedModel):
        model.config.initialized_from = _origin(str(source), folder, len(copied))
    return CopyReport(copied, other_shape, missing)


def _origin(source: str, folder: Path, tensors: int) -> dict[str, Any]:
    """What the card tells of the checkpoint that a training started from; of a local one, its folder's name alone."""
    summary = read_json(folder / SUMMARY)
    return {
        "name": Path(source).resolve().name if Path(source).is_dir() else source,
        "architecture": (read_json(folder / CONFIG).get("architectures") or [None])[0],
        "tensors": tensors,
        **{name: summary.get(name) for name in ("steps", "patches", "seconds")},
    }
