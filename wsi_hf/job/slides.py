"""The slides of a job: loaded, looked at, and parted into training, validation and test slides."""

import logging
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from datasets import Dataset

from wsi_hf.cohorts.camelyon16 import LABELS, SYNTHETIC, load_cohort, open_slide, split_validation
from wsi_hf.cohorts.manifest import Cohort
from wsi_hf.cohorts.synthetic import synthesize_cohort
from wsi_hf.job.recipes import Seen

if TYPE_CHECKING:
    from wsi_hf.job.options import JobArguments

logger = logging.getLogger(__name__)

LOOKED_AT = 40
"""Slides that are opened before the training, evenly over the cohort."""

CALIBRATED = 4
"""Validation slides of each class that a calibration needs; so many are set aside where at least two are left."""


@dataclass(frozen=True)
class Slides:
    """What is trained on, watched while training, and judged in the end; notes: what had to be left out."""

    train: Dataset
    validation: Dataset
    test: Dataset
    notes: tuple[str, ...] = ()

    @property
    def watched(self) -> Dataset | None:
        """The validation slides; None where there are none."""
        return self.validation if len(self.validation) else None

    @property
    def judged(self) -> tuple[str, Dataset]:
        """The slides that the finished model is judged on, and their split; none is ("", empty)."""
        for name, part in (("test", self.test), ("validation", self.validation)):
            if len(part):
                return name, part
        return "", self.test


def slides_of(job: "JobArguments", seed: int) -> Slides:
    """The job's slides; without a cohort, synthetic ones are written first, or taken if they are there."""
    cohort = job.cohort or synthesize_cohort(Path("cohorts") / f"synthetic-{seed}", seed=seed)
    return parted(load_cohort(cohort, job.slides, labels=job.labels), job.validation_fraction, seed)


def parted(cohort: Cohort, validation_fraction: float, seed: int) -> Slides:
    """Part a cohort; a share of the training slides becomes the validation slides where it has none.

    Raises:
        ValueError: one of the two classes has no training slide.
    """
    notes, labels = [], [row["label"] for row in cohort if row["split"] == "train"]
    for label, name in enumerate(LABELS):
        if label not in labels:
            raise ValueError(f"there is no {name} training slide; training learns from the difference of the two")
    if "validation" not in cohort["split"]:
        least = min(labels.count(0), labels.count(1))
        if validation_fraction and least >= CALIBRATED + 2:
            validation_fraction = max(validation_fraction, CALIBRATED / least)
        try:
            cohort = split_validation(cohort, validation_fraction, seed)
        except ValueError as error:
            notes.append(f"no slide is set aside for validation: {error}")
    train, validation, test = (
        cohort.select([row for row, name in enumerate(cohort["split"]) if name == split])
        for split in ("train", "validation", "test")
    )
    return Slides(train, validation, test, tuple(notes))


def look_at(cohort: str | None, slides: str | None, labels: str | None, gpu: bool) -> Seen:
    """What a recipe is chosen by; slides that cannot be opened are passed over."""
    if cohort is None or (Path(cohort) / SYNTHETIC).exists():
        return Seen(benign=64, malignant=64, megapixels=0.6, gpu=gpu, synthetic=True)
    rows = [row for row in load_cohort(cohort, slides, labels=labels) if row["split"] == "train"]
    sizes = []
    for row in rows[:: max(1, len(rows) // LOOKED_AT)]:
        try:
            width, height = open_slide(row).size_px(1.0)
            sizes.append(width * height / 1e6)
        except (RuntimeError, ValueError, OSError) as error:
            logger.debug("%s", error)
    malignant = sum(row["label"] for row in rows)
    return Seen(len(rows) - malignant, malignant, median(sizes) if sizes else 0.0, gpu)
