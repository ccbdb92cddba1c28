"""Slides that fail to read during a training: tried again first, for a network drive may only have hiccuped."""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from wsi_hf.slides.replacing import write_text
from wsi_hf.slides.slide import Slide, SlideError

logger = logging.getLogger(__name__)

RETRY_PAUSES_S = (0.5, 2.0)

Result = TypeVar("Result")


def retried(read: Callable[[], Result], slide_id: str, patient: bool = True) -> Result:
    """The result of `read`, which is called once more after each pause as long as it raises SlideError.

    Args:
        patient: False calls it once.

    Raises:
        SlideError: of the last call.
    """
    for pause in RETRY_PAUSES_S if patient else ():
        try:
            return read()
        except SlideError as error:
            logger.warning("%s cannot be read and is tried again in %g s: %s", slide_id, pause, error)
            time.sleep(pause)
    return read()


def readable(path: str, mpp: float | None) -> bool:
    """Whether a slide can be read at all: opened, and somewhere read. A damaged spot is not the slide's end."""
    try:
        slide = Slide(path, mpp=mpp)
    except SlideError:
        return False
    for share in (0.5, 0.3, 0.7):
        try:
            slide.read_patch((slide.dimensions_l0[0] * share, slide.dimensions_l0[1] * share), 32, slide.mpp)
        except SlideError:
            continue
        return True
    return False


class UnreadableLog:
    """What could not be read, and when: each process adds lines to a file of its own, the mapper reads them all.

    unreadable/<host>.<pid>.jsonl    {"round": 3, "item": 1203, "slide": 7, "reason": "..."}; item -1: while mapping
    """

    def __init__(self, mapping_folder: str | os.PathLike):
        self.folder = Path(mapping_folder) / "unreadable"

    def add(self, round_index: int, slide: int, reason: str, item: int = -1) -> None:
        self.folder.mkdir(exist_ok=True)
        line = {"round": round_index, "item": item, "slide": slide, "reason": reason}
        with open(self.folder / f"{socket.gethostname()}.{os.getpid()}.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines, in an order that depends on nothing but what they say."""
        found = {line for path in self.folder.glob("*.jsonl") for line in path.read_text().splitlines()}
        return sorted(map(json.loads, found), key=lambda line: (line["round"], line["item"], line["slide"]))

    def before(self, round_index: int, mapped: bool = False) -> dict[int, str]:
        """The slides that failed in two rounds before this one, and why at first; one bad moment of a disk is none.

        Args:
            mapped: what this round's mapping could not read counts too.
        """
        rounds: dict[int, set[int]] = {}
        reasons: dict[int, str] = {}
        for line in self.lines():
            if line["round"] < round_index or (mapped and line["round"] == round_index and line["item"] < 0):
                rounds.setdefault(line["slide"], set()).add(line["round"])
                reasons.setdefault(line["slide"], line["reason"])
        return {slide: reason for slide, reason in reasons.items() if len(rounds[slide]) > 1}

    def forget(self, slides: Collection[int]) -> None:
        """Drop what was said of these slides; while nobody else writes."""
        for path in self.folder.glob("*.jsonl"):
            lines = [line for line in path.read_text().splitlines() if json.loads(line)["slide"] not in slides]
            write_text(path, "".join(line + "\n" for line in lines))

    def write(self, path: Path, items: int) -> None:
        """Copy the lines of the first items, and of the mapping."""
        lines = [json.dumps(line) + "\n" for line in self.lines() if line["item"] < items]
        write_text(path, "".join(lines))
