"""Maps belong to a checkpoint: hard links to the maps that the next steps draw from, beside weights and optimiser."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from wsi_hf.mapping.first_maps import WINDOWS
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.mapping.pool import CLAIMS, DONE
from wsi_hf.mapping.slide_queue import default_file
from wsi_hf.sampling.map_store import FAILED, MapStore
from wsi_hf.sampling.unreadable import UnreadableLog, readable
from wsi_hf.slides.handles import file_stamp
from wsi_hf.slides.replacing import write_text
from wsi_hf.training.checkpoints.manifest import MANIFEST

UNREADABLE, FIRST_MAPS = "unreadable", "first_maps.json"


def begin_folder(settings: MappingSettings, checkpoint: Path | None) -> None:
    """Make the mapping folder ready: what an earlier run left goes, what the checkpoint holds comes.

    The default maps stay if they were made of the same slides at the same resolution: finding tissue takes time. Slides
    that were set aside come back if they can be read again.
    """
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    known = _known_first_maps(settings) | _first_maps_of_lost(settings, checkpoint)
    for name in (WINDOWS, UNREADABLE, CLAIMS, DONE):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in [*folder.glob("rounds/*"), *folder.glob("maps/*"), *folder.glob("weights/*")]:
        if path.name not in known:
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
    write_text(folder / FIRST_MAPS, json.dumps(_first_map_facts(settings)))


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
    again = {slide for slide in failed if readable(settings.slides[slide].path, settings.slides[slide].mpp)}
    log.forget(again)
    for round_index in store.finished():
        index = store.read(round_index)
        lost = {slide: reason for slide, reason in index.lost.items() if slide not in again}
        if lost != index.lost:
            store.publish(round_index, dataclasses.replace(index, lost=lost))


def _known_first_maps(settings: MappingSettings) -> set[str]:
    """The first maps of an earlier run that are still right: of files that have not changed since, or are gone.

    Where they follow kinds of tissue, all hang together.
    """
    try:
        theirs = json.loads((Path(settings.folder) / FIRST_MAPS).read_text())
    except (OSError, ValueError):
        return set()
    ours = _first_map_facts(settings)
    if ours == theirs:
        return {"-1.json", *map(default_file, settings.slides)}
    if settings.discovery_rounds or any(ours[name] != theirs.get(name) for name in ("settings", "kinds")):
        return set()
    same = {name for name, facts in ours["slides"].items() if theirs["slides"].get(name) == facts}
    return {default_file(slide) for slide in settings.slides if slide.slide_id in same}


def _first_maps_of_lost(settings: MappingSettings, checkpoint: Path | None) -> set[str]:
    """Slides that cannot be read any more keep the map that they have."""
    lost = {line["slide"] for line in UnreadableLog(checkpoint / "mapping").lines()} if checkpoint else ()
    slides = [settings.slides[slide] for slide in lost]
    return {default_file(slide) for slide in slides if not readable(slide.path, slide.mpp)}


def _first_map_facts(settings: MappingSettings) -> dict[str, Any]:
    """What first maps are made of, as JSON."""
    finder = [settings.discovery, settings.discovery_encoder]
    kinds = [[slide.label for slide in settings.slides], settings.alpha, settings.seed, *finder]
    facts = {
        "settings": [settings.mpp, settings.map_stride, settings.tile_size, settings.tissue, settings.alpha],
        "kinds": kinds if settings.discovery_rounds else None,
        "slides": {
            slide.slide_id: [slide.path, slide.mpp, slide.tissue, file_stamp(Path(slide.path))]
            for slide in settings.slides
        },
    }
    return json.loads(json.dumps(facts))
