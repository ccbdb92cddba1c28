"""Which patches were drawn, and what they looked like to the model: a line each in a CSV, their means in the log."""

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.training.pace import mapping_facts

NAMES = ("index", "slide", "labels", "center_l0", "map_round")


class DrawLog:
    """The patches of one rank since the last log.

    Args:
        items_per_step: patches behind one step of the optimiser.
        rank: of the process that draws them.
    """

    def __init__(self, settings: MappingSettings, items_per_step: int, rank: int):
        self.settings, self.items_per_step = settings, items_per_step
        self.path = Path(settings.folder) / f"draws.{rank}.csv"
        self._seen: list[dict[str, Tensor]] = []

    def see(self, inputs: dict[str, Any], q: Tensor) -> None:
        """A batch, and the slide head's q of its patches, (B,)."""
        self._seen.append({name: inputs[name] for name in NAMES} | {"q": q})

    def summary(self) -> dict[str, float]:
        """What the log says of the patches since the last call, which are then written down; empty without any."""
        if not self._seen:
            return {}
        seen = {name: torch.cat([batch[name] for batch in self._seen]).cpu() for name in self._seen[0]}
        self._seen.clear()
        self._write(seen)
        malignant = seen["labels"] == 1
        means = {"q_benign": float(seen["q"][~malignant].mean()), "q_malignant": float(seen["q"][malignant].mean())}
        steps = (seen["index"] // self.items_per_step).tolist()
        settings = self.settings
        return means | mapping_facts(settings.store, settings.steps_per_round, steps, seen["map_round"].tolist())

    def _write(self, seen: dict[str, Tensor]) -> None:
        """Append to draws.<rank>.csv: step, slide_id, label, x_l0, y_l0, round of the map, q."""
        columns = [seen[name].tolist() for name in (*NAMES, "q")]
        with open(self.path, "a", newline="") as file:
            rows = csv.writer(file)
            for i, slide, label, (x, y), map_round, q in zip(*columns, strict=True):
                slide_id = self.settings.slides[slide].slide_id
                rows.writerow([i // self.items_per_step, slide_id, label, x, y, map_round, q])
