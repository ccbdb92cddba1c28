"""slides.csv of an evaluation: one line a slide."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from wsi_hf.evaluation.estimates import json_number
from wsi_hf.slides.names import no_formula
from wsi_hf.slides.replacing import replacing


@dataclass(frozen=True)
class SlideRow:
    """One line of slides.csv.

    Attributes:
        slide_id: its name.
        label: benign or malignant.
        called: benign or malignant, by the model.
        score: P(slide is malignant); that of its best pixel where the model is not calibrated.
        raw_score: its largest P(malignant), the paper's score.
        margin: the logit margin of that, by which slides are ranked.
        error: share of the slides of the other label that stand on the wrong side of it, ties half: 0 is perfect. On
            malignant slides its mean is 1 - AUC, and on benign ones too. NaN without slides of the other label.
        outlined: lesions that are outlined on its map.
        lesions: number that FROC counts.
        found: how many of them a detection of P >= 0.5 hit.
        false_positives: detections of P >= 0.5 that hit nothing.
        average_precision: of its pixels.
        dice: of its pixels.
        mpp: um per level-0 pixel.
        note: what is particular about it.
    """

    slide_id: str
    label: str
    called: str
    score: float
    raw_score: float
    margin: float
    error: float
    outlined: int
    lesions: int | None
    found: int | None
    false_positives: int | None
    average_precision: float
    dice: float
    mpp: float
    note: str


def write_slide_rows(path: Path, rows: list[SlideRow]) -> None:
    """Write slides.csv under a temporary name and rename it; what is undefined stays empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(column.name for column in fields(SlideRow))
    for row in rows:
        table.writerow(
            json_number(value) if isinstance(value, float) else no_formula(value) for value in asdict(row).values()
        )  # None becomes an empty field
    with replacing(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")
