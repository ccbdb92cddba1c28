"""Maps belong to a checkpoint: hard links to the maps that the next steps draw from, beside weights and optimiser."""

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from wsi_hf.mapping.first_maps import WINDOWS
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.sampling.map_store import FAILED, MapStore
from wsi_hf.sampling.unreadable import file_stamp
from wsi_hf.slides.replacing import write_text

logger = logging.getLogger(__name__)


UNREADABLE = "unreadable.json"


def begin_folder(settings: MappingSettings, checkpoint: Path | None) -> dict[int, str]:
    """Make the mapping folder ready: what an earlier run left goes, what the checkpoint holds comes.

    The default maps stay if they were made of the same slides at the same resolution: finding tissue takes time. Slides
    that were set aside come back if their files have changed since.

    Returns:
        The slides that could not be read in the round that the checkpoint was saved in, and why.
    """
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    keep_first_maps = (folder / "settings.json").exists() and _first_map_facts(settings) == _first_map_facts(
        MappingSettings.load(folder)
    )
    shutil.rmtree(folder / WINDOWS, ignore_errors=True)
    for path in [*folder.glob("rounds/*"), *folder.glob("maps/*"), *folder.glob("weights/*")]:
        if not (keep_first_maps and path.stem.split(".")[-1] == "-1"):
            path.unlink()
    for path in [folder / FAILED, folder / UNREADABLE, *folder.glob("mapping*.log"), *folder.glob("*/.*.part")]:
        path.unlink(missing_ok=True)
    if checkpoint is None:
        for path in folder.glob("draws.*.csv"):
            path.unlink()
    else:
        _link_tree(checkpoint / "mapping", folder)
        _welcome_back(settings)
    settings.save()
    unreadable = folder / UNREADABLE
    return {int(s): reason for s, reason in json.loads(unreadable.read_text()).items()} if unreadable.exists() else {}


def keep_maps(settings: MappingSettings, round_index: int, checkpoint: Path, unreadable: dict[int, str]) -> None:
    """Link what a run resumed from this checkpoint needs, before all else is saved there.

    Args:
        unreadable: slides that could not be read since the last hand-over, and why.
    """
    store: MapStore = settings.store
    partial = checkpoint / "mapping.tmp"
    (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)  # written last, it marks a checkpoint as complete
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in store.files_for(round_index):
        target = partial / path.relative_to(store.folder)
        target.parent.mkdir(exist_ok=True)
        if not path.stem.endswith(".-1"):  # default maps are made again from the slides
            os.link(path, target)
    write_text(partial / UNREADABLE, json.dumps(unreadable))
    shutil.rmtree(checkpoint / "mapping", ignore_errors=True)
    partial.rename(checkpoint / "mapping")


def check_weights(store: MapStore, first_round: int, round_index: int) -> None:
    """What a mapping needs that begins with `first_round` while the training goes on in `round_index`.

    Raises:
        ValueError: weights are missing, because the checkpoint is of a run with other rounds.
    """
    missing = [r for r in range(first_round, round_index) if not store.weights_path(r).exists()]
    if missing:
        raise ValueError(
            f"the checkpoint cannot be resumed from: the weights of its rounds {missing} are missing. "
            "Go on with the arguments that it was saved under; steps_per_round above all"
        )


def newest_checkpoint(output_dir: str | Path) -> str:
    """The newest complete checkpoint; one that a killed run left half-written is passed over.

    Raises:
        ValueError: there is none.
    """
    complete = [
        path.parent for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*/mapping") if _has_state(path.parent)
    ]
    if not complete:
        raise ValueError(
            f"{output_dir} holds no complete checkpoint to resume from; start without --resume_from_checkpoint"
        )
    newest = max(complete, key=lambda path: int(path.name.rsplit("-", 1)[1]))
    logger.info("Resuming from %s", newest)
    return str(newest)


def _has_state(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text())
    except (OSError, ValueError):
        return False
    return True


def _link_tree(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            destination = target / path.relative_to(source)
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.unlink(missing_ok=True)
            os.link(path, destination)


def _welcome_back(settings: MappingSettings) -> None:
    """Slides that were set aside are used again if their files have changed since."""
    store, stamps = settings.store, [file_stamp(slide.path) for slide in settings.slides]
    for round_index in store.finished():
        index = store.read(round_index)
        entries = [
            dataclasses.replace(entry, lost="", stamp="") if entry.lost and entry.stamp != stamp else entry
            for entry, stamp in zip(index.entries, stamps, strict=True)
        ]
        if entries != index.entries:
            store.publish(round_index, dataclasses.replace(index, entries=entries))


def _first_map_facts(settings: MappingSettings) -> str:
    slides = [(slide.slide_id, slide.path, slide.mpp) for slide in settings.slides]
    kinds = [[slide.label for slide in settings.slides], settings.alpha, settings.seed]
    return json.dumps(
        [
            *(slides, settings.mpp, settings.map_stride, settings.tile_size, settings.tissue),
            kinds if settings.discovery_rounds else None,
        ]
    )
