"""Maps belong to a checkpoint: hard links to the maps that the next steps draw from, beside weights and optimiser."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

from wsi_hf.mapping.first_maps import WINDOWS
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.mapping.pool import CLAIMS, DONE
from wsi_hf.sampling.map_store import FAILED, MapStore
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.unreadable import UnreadableLog
from wsi_hf.slides.slide import Slide, SlideError
from wsi_hf.training.checkpoints.manifest import MANIFEST

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
    for name in (WINDOWS, UNREADABLE, CLAIMS, DONE):
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
    (checkpoint / MANIFEST).unlink(missing_ok=True)  # written last, it marks a checkpoint as complete
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in store.live_files():
        target = partial / path.relative_to(store.folder)
        target.parent.mkdir(exist_ok=True)
        link_or_copy(path, target)
    (partial / UNREADABLE).mkdir()
    UnreadableLog(store.folder).write(partial / UNREADABLE / "earlier.jsonl", items)
    shutil.rmtree(checkpoint / "mapping", ignore_errors=True)
    partial.rename(checkpoint / "mapping")


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none or the target lies on another one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _link_tree(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            destination = target / path.relative_to(source)
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.unlink(missing_ok=True)
            link_or_copy(path, destination)


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
    kinds = [[slide.label for slide in settings.slides], settings.alpha, settings.seed, settings.discovery]
    return json.dumps(
        [
            *(slides, settings.mpp, settings.map_stride, settings.tile_size, settings.tissue),
            kinds if settings.discovery_rounds else None,
        ]
    )
