"""Slides that fail during a training: known to all ranks, too many of them stop it, the report names them."""

import json
from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import broadcast_object_list

from wsi_hf.sampling.map_store import MapStore
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.unreadable import UnreadableLog
from wsi_hf.slides.replacing import write_text


class LostSlidesError(RuntimeError):
    """More slides than allowed cannot be read; a checkpoint was saved."""


class LostSlides:
    """The slides that could not be read, and why.

    A slide is lost when it could not be read in two rounds, while it was mapped or for a patch; the index of maps then
    sets it aside, for all ranks and for a resumed run, which tries it once.

    Args:
        share: more than this share of the slides stops the training.
        report: JSON that names them, written when there are any.
    """

    def __init__(self, slides: Sequence[TrainingSlide], share: float, report: Path):
        self.slides, self.share, self.report = slides, share, report
        self.reasons: dict[int, str] = {}

    def settle(self, store: MapStore, round_index: int) -> None:
        """All ranks learn, from the first, which slides are lost where this round begins; it writes the report."""
        lost = [{**self.reasons, **UnreadableLog(store.folder).before(round_index), **store.newest().lost}]
        self.reasons = dict(sorted(broadcast_object_list(lost)[0].items()))

    @property
    def too_many(self) -> bool:
        return len(self.reasons) > self.share * len(self.slides)

    def write(self) -> None:
        """Write the report, or remove an earlier run's."""
        if not self.reasons:
            self.report.unlink(missing_ok=True)
            return
        rows = [
            {"slide_id": self.slides[slide].slide_id, "path": self.slides[slide].path, "reason": reason}
            for slide, reason in self.reasons.items()
        ]
        write_text(self.report, json.dumps(rows, indent=1))

    def error(self) -> LostSlidesError:
        lost = [f"  {self.slides[slide].slide_id}: {reason}" for slide, reason in self.reasons.items()]
        return LostSlidesError(
            f"{len(lost)} of {len(self.slides)} training slides cannot be read, more than max_lost_slides = "
            f"{self.share:g} allows; a checkpoint was saved. Copy them again or raise --max_lost_slides, then go on "
            "with --resume_from_checkpoint True:\n" + "\n".join(lost)
        )
