"""manifest.json of a checkpoint: whose it is, what it was computed under, and what its files looked like."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.slides.replacing import write_text
from wsi_hf.training.arguments import WsiTrainingArguments

MANIFEST = "manifest.json"

COMPUTED = (
    "seed", "alpha", "patch_size", "dynamic_sampling", "draw_from", "shuffle_buffer", "steps_per_round",
    "slides_per_round", "discovery_steps", "discovery", "discovery_encoder", "max_epochs_unmapped", "error_mass",
    "pixel_loss", "map_stride", "mapping_tile_size", "tissue", "beta_0", "beta_1", "beta_1_warmup_start",
    "beta_1_warmup_steps", "augment_rotate", "augment_mirror", "augment_elastic_px", "augment_stain",
    "augment_colour", "glass_weight", "glass_share",
)  # fmt: skip
"""Arguments that a run cannot go on without: maps, patches and loss would be others than those so far."""
NAMED = (
    "learning_rate", "weight_decay", "optim", "lr_scheduler_type", "warmup_steps", "max_grad_norm", "bf16", "fp16",
    "mapping_dtype", "per_device_train_batch_size", "gradient_accumulation_steps",
)  # fmt: skip
"""Arguments that may change on purpose; it is said."""


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What a run computes with.

    run: an id that no other run has. computed: what must not change. named: what may. slides: id, label and mpp of
    each, in order. validation: ids.
    """

    run: str
    computed: dict[str, Any]
    named: dict[str, Any]
    slides: list[list[Any]]
    validation: list[str]

    @classmethod
    def of(
        cls, run: str, args: WsiTrainingArguments, slides: list[TrainingSlide], validation: list[str],
        items_per_step: int, **more: Any,
    ) -> "RunFacts":  # fmt: skip
        computed = {name: getattr(args, name) for name in COMPUTED} | {"patches a step": items_per_step} | more
        named = {name: str(getattr(args, name, None)) for name in NAMED} | {"processes": args.world_size}
        rows = [[slide.slide_id, slide.label, slide.mpp] for slide in slides]
        return cls(run, json.loads(json.dumps(computed)), named, rows, validation)

    def refused(self, then: "RunFacts") -> list[str]:
        """What differs from a checkpoint's and cannot be gone on with, in words."""
        told = [f"{name} {old!r}, now {self.computed.get(name)!r}" for name, old in self._changes(then, "computed")]
        ids, old_ids = ([row[0] for row in facts.slides] for facts in (self, then))
        if self.slides == then.slides:
            return told
        if sorted(ids) != sorted(old_ids):
            new, gone = sorted(set(ids) - set(old_ids)), sorted(set(old_ids) - set(ids))
            told.append(f"the training slides: {len(new)} new ({_some(new)}), {len(gone)} gone ({_some(gone)})")
            if held_out := sorted(set(new) & set(then.validation)):
                told.append(f"{len(held_out)} of them were validation slides ({_some(held_out)})")
        elif ids != old_ids:
            told.append("the order of the training slides")
        else:
            changed = [row[0] for row, old in zip(self.slides, then.slides, strict=True) if row != old]
            told.append(f"label or mpp of {_some(changed)}")
        return told

    def differences(self, then: "RunFacts") -> list[str]:
        """What differs and may."""
        told = [f"{name} {old}, now {self.named.get(name)}" for name, old in self._changes(then, "named")]
        return told + (["the validation slides"] if self.validation != then.validation else [])

    def _changes(self, then: "RunFacts", part: str) -> list[tuple[str, Any]]:
        ours, theirs = getattr(self, part), getattr(then, part)
        return [(name, old) for name, old in theirs.items() if ours.get(name) != old]


def write_manifest(checkpoint: Path, facts: RunFacts) -> None:
    """Written last: a checkpoint without it is half-written."""
    files = {
        str(path.relative_to(checkpoint)): [path.stat().st_size, _checksum(path)]
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_text(checkpoint / MANIFEST, json.dumps({"facts": dataclasses.asdict(facts), "files": files}, indent=1))


def read_manifest(checkpoint: Path) -> RunFacts | None:
    """None where the checkpoint is half-written."""
    try:
        return RunFacts(**json.loads((checkpoint / MANIFEST).read_text())["facts"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def damages(checkpoint: Path) -> list[str]:
    """The files that are not as they were saved, and how."""
    found = []
    for name, (size, checksum) in json.loads((checkpoint / MANIFEST).read_text())["files"].items():
        path = checkpoint / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != size:
            found.append(f"{name} has {path.stat().st_size} of {size} bytes")
        elif _checksum(path) != checksum:
            found.append(f"{name} has changed")
    return found


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "none"
