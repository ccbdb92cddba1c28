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
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.unreadable import UnreadableLog
from wsi_hf.slides.slide import Slide, SlideError

logger = logging.getLogger(__name__)


UNREADABLE = "unreadable"


def begin_folder(settings: MappingSettings, checkpoint: Path | None) -> None:
    """Make the mapping folder ready: what an earlier run left goes, what the checkpoint holds comes.

    The default maps stay if they were made of the same slides at the same resolution: finding tissue takes time. Slides
    that were set aside come back if they can be read again.
    """
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    keep_first_maps = (folder / "settings.json").exists() and _first_map_facts(settings) == _first_map_facts(
        MappingSettings.load(folder)
    )
    for name in (WINDOWS, UNREADABLE):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in [*folder.glob("rounds/*"), *folder.glob("maps/*"), *folder.glob("weights/*")]:
        if not (keep_first_maps and path.stem.split(".")[-1] == "-1"):
            path.unlink()
    for path in [folder / FAILED, *folder.glob("mapping*.log"), *folder.glob("*/.*.part")]:
        path.unlink(missing_ok=True)
    if checkpoint is None:
        for path in folder.glob("draws.*.csv"):
            path.unlink()
    else:
        _link_tree(checkpoint / "mapping", folder)
        _welcome_back(settings)
    settings.save()


def keep_maps(store: MapStore, checkpoint: Path, items: int) -> None:
    """Link what a run resumed from this checkpoint needs, before all else is saved there.

    Args:
        items: patches that were trained on so far.
    """
    partial = checkpoint / "mapping.tmp"
    (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)  # written last, it marks a checkpoint as complete
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in store.live_files():
        target = partial / path.relative_to(store.folder)
        target.parent.mkdir(exist_ok=True)
        os.link(path, target)
    (partial / UNREADABLE).mkdir()
    UnreadableLog(store.folder).write(partial / UNREADABLE / "earlier.jsonl", items)
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
    """Slides that were set aside are used again if they can be read again."""
    store, log = settings.store, UnreadableLog(settings.folder)
    failed = {line["slide"] for line in log.lines()}
    again = {slide for slide in failed if _readable(settings.slides[slide])}
    log.forget(again)
    for round_index in store.finished():
        index = store.read(round_index)
        lost = {slide: reason for slide, reason in index.lost.items() if slide not in again}
        if lost != index.lost:
            store.publish(round_index, dataclasses.replace(index, lost=lost))


def _readable(info: TrainingSlide) -> bool:
    try:
        slide = Slide(info.path, mpp=info.mpp)
        slide.read_patch((slide.dimensions_l0[0] / 2, slide.dimensions_l0[1] / 2), 64, slide.mpp)
    except SlideError:
        return False
    return True


def _first_map_facts(settings: MappingSettings) -> str:
    slides = [(slide.slide_id, slide.path, slide.mpp) for slide in settings.slides]
    kinds = [[slide.label for slide in settings.slides], settings.alpha, settings.seed]
    return json.dumps(
        [
            *(slides, settings.mpp, settings.map_stride, settings.tile_size, settings.tissue),
            kinds if settings.discovery_rounds else None,
        ]
    )
