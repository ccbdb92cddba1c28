"""From the auto-encoder to the segmenter: what carries over, tensor by tensor (paper, section 6)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import nn


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
    """Copy into the model every tensor of a checkpoint that has the same name and shape.

    Args:
        source: folder or Hub repository with a model.safetensors, such as a pre-trained auto-encoder.

    Raises:
        ValueError: nothing matches.
    """
    folder = Path(source) if Path(source).is_dir() else Path(snapshot_download(str(source)))
    weights = load_file(folder / "model.safetensors")
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
    return CopyReport(copied, other_shape, missing)
