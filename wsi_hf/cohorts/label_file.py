"""Slide labels from a file of their own, such as CAMELYON+'s: it corrects labels, and leaves slides out.

CAMELYON+ (Ling et al., Scientific Data 2025, doi:10.1038/s41597-025-05586-5) has its labels of CAMELYON16 and 17 in a
workbook, `Camelyon+(4-classes).xlsx`, with the columns slide and label (negative, itc, micro, macro); saved as CSV it
is such a file. So are the tables slide_id,label,split of 0 and 1 that others have made of it; their split is not used.
What of this was seen, and where, says docs/camelyon16.md.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from wsi_hf.cohorts.rows import LABELS, label_number, some
from wsi_hf.cohorts.text_tables import read_table
from wsi_hf.slides.files import SLIDE_SUFFIXES

logger = logging.getLogger(__name__)

SLIDE_COLUMNS = ("slide", "slide_id", "slide_path")
SUFFIXES = SLIDE_SUFFIXES | {".pt", ".h5"}
"""What a slide's name may end in: benchmarks name the file of its features."""
STAGES = {"itc", "micro", "macro"}
"""CAMELYON+'s words for malignant slides."""
REMOVED = {"removed", "excluded"}


def read_labels(path: str | Path) -> dict[str, int | None]:
    """Read {slide, in small letters and without suffix: label}; None where the file says that it is removed.

    Args:
        path: a CSV table with the columns label and one of slide, slide_id and slide_path. Labels: negative, itc, micro
            and macro; benign, malignant and the other words of `models.class_names`; 0 and 1; removed or excluded.

    Raises:
        ValueError: a column is missing, a label is unknown, or a slide has two; names file, line and slide.
    """
    path = Path(path)
    labels: dict[str, int | None] = {}
    lines: dict[str, int] = {}
    for number, cells in read_table(path, {"label"}):
        column = next((name for name in SLIDE_COLUMNS if name in cells), None)
        if column is None or not cells[column]:
            columns = ", ".join(SLIDE_COLUMNS)
            raise ValueError(f"{path.name}, line {number}: no slide in a column {columns} ({path})")
        slide, where = slide_key(cells[column]), f"{path.name}, line {number}: {cells[column]}"
        label = _label(cells.get("label", ""), where)
        if labels.setdefault(slide, label) != label:
            raise ValueError(f"{where} has another label than in line {lines[slide]}; remove one ({path})")
        lines.setdefault(slide, number)
    return labels


def corrected(known: Mapping[str, int | None], path: str | Path) -> dict[str, int]:
    """Give the slides of a cohort the labels of a file; slides that it removes or does not list are left out, and said.

    Args:
        known: the cohort's own label of each slide; None where it has none.
        path: see `read_labels`. Slides of other cohorts in it, such as CAMELYON17's, do not matter.

    Raises:
        ValueError: it names no slide of the cohort, or cannot be read.
    """
    path, listed = Path(path), read_labels(path)
    labels = {slide: label for slide in known if (label := listed.get(slide)) is not None}
    if not labels:
        raise ValueError(
            f"{path.name} labels no slide of the cohort: it names {some(sorted(listed)) or 'none'}, the cohort "
            f"{some(sorted(known))} ({path})"
        )
    if removed := sorted(set(known) - set(labels)):
        count = len(removed)
        logger.warning("%s removes or does not list %d slides; left out: %s", path.name, count, some(removed))
    changed = [f"{slide} {LABELS[label]}" for slide, label in labels.items() if known[slide] not in (None, label)]
    if changed:
        logger.warning("%s has another label for %d slides: %s", path.name, len(changed), ", ".join(changed))
    return labels


def slide_key(name: str) -> str:
    """A slide's name as files are compared by: without folders and suffix, in small letters."""
    plain = name.replace("\\", "/").rsplit("/", 1)[-1].lower()
    suffix = next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), "")
    return plain.removesuffix(suffix)


def _label(word: str, where: str) -> int | None:
    plain = word.strip().lower()
    label = 1 if plain in STAGES else label_number(plain)
    if label is None and plain not in REMOVED:
        raise ValueError(
            f"{where} has the label {word!r}; labels are negative, itc, micro, macro, benign, malignant, 0, 1, removed"
        )
    return label
