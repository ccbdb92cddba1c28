"""A checkpoint's weights come back whole, whatever names they were saved under."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME


def load_whole(model: PreTrainedModel, checkpoint: Path) -> None:
    """Load all weights where transformers, which matches names without further ado, has left some as they were.

    Saving renames the tensors of some networks; `from_pretrained` knows how to name them back.

    Raises:
        ValueError: the checkpoint does not hold all tensors of the network.
    """
    names = _saved_names(checkpoint)
    if names == set(model.state_dict()):
        return
    loaded: Any = type(model).from_pretrained(checkpoint, output_loading_info=True)
    saved, found = loaded
    wrong = sorted({*found["missing_keys"], *found["unexpected_keys"], *map(str, found["mismatched_keys"])})
    if wrong:
        raise ValueError(
            f"{type(model).__name__} cannot be loaded whole from {checkpoint}: {len(wrong)} tensors do not fit, such "
            f"as {', '.join(wrong[:3])}"
        )
    model.load_state_dict(saved.state_dict())


def _saved_names(checkpoint: Path) -> set[str]:
    index = checkpoint / SAFE_WEIGHTS_INDEX_NAME
    if index.exists():
        return set(json.loads(index.read_text())["weight_map"])
    with safe_open(checkpoint / SAFE_WEIGHTS_NAME, framework="pt") as file:
        return set(file.keys())
