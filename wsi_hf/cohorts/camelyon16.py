"""Lists of labelled slides: CAMELYON16 as it is published, or a table of one's own.

A cohort is a `datasets.Dataset` with one row a slide:

    slide_id     str
    path         str, the slide's file
    label        ClassLabel: 0 benign, 1 malignant
    split        str: train, validation or test
    annotation   str or None: the ASAP outline of the tumour; for evaluation only, labels never come from it
    mpp          float or None: um per level-0 pixel, where the file's own is to be overridden
    exhaustive   bool: all tumour is outlined; a slide of which that is not so cannot be judged pixel by pixel
    tissue       str or None: a tissue mask of one's own, see `slides.tissue_masks`
"""

import csv
import io
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsi_hf.cohorts.label_file import corrected
from wsi_hf.cohorts.manifest import Cohort, load_manifest
from wsi_hf.cohorts.own_slides import TABLE_SUFFIXES
from wsi_hf.cohorts.own_slides import load_table as load_table
from wsi_hf.cohorts.rows import FEATURES, LABELS, cohort_row, label_number, labels_of, some
from wsi_hf.cohorts.text_tables import SEPARATORS, read_text
from wsi_hf.slides.files import is_hidden
from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

WITHDRAWN: Mapping[str, str] = {
    "test_049": "a duplicate, withdrawn by the organisers",
    "normal_086": "relabelled by the organisers: it is tumor_111",
}
"""Slides of CAMELYON16 that are left out."""
NOT_IN_FROC = frozenset({"test_114"})
"""Test slides of which some tumour lies outside the outlines: excluded from FROC, kept for the AUC."""
NOT_EXHAUSTIVELY_ANNOTATED = frozenset(
    f"tumor_{number:03d}"
    for number in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110)
)  # fmt: skip
"""Training slides of which some tumour lies outside the outlines."""
RELEASE: Mapping[str, frozenset[str]] = {
    kind: frozenset(f"{kind}_{number:03d}" for number in range(1, last + 1)) - set(WITHDRAWN)
    for kind, last in (("normal", 160), ("tumor", 111), ("test", 130))
}
"""The slides of the release: 159 normal and 111 tumour ones for training, 129 for test."""
SCANNERS_MPP: Mapping[str, tuple[float, float]] = {"Radboud": (0.2425, 0.2435), "Utrecht": (0.226, 0.2275)}
"""Range of um per level-0 pixel of each of the two scanners."""
SYNTHETIC = "synthetic.json"
"""Stands in the folder of a synthetic cohort: its slides have CAMELYON16's names, and none of these facts."""

# (images, annotations) of both layouts seen in the wild; a folder that is not there holds nothing
SLIDE_FOLDERS = (
    ("images", "annotations"),
    ("training/normal", "training/lesion_annotations"),
    ("training/tumor", "training/lesion_annotations"),
    ("testing/images", "testing/lesion_annotations"),
)
REFERENCES = ("evaluation", "testing")  # folders of reference.csv
SLIDE_NAME = re.compile(r"(normal|tumor|test)_\d+")


def load_cohort(
    path: str | Path,
    slides: str | Path | None = None,
    verify: bool = False,
    revision: str | None = None,
    labels: str | Path | None = None,
) -> Cohort:
    """Load a cohort: a folder in a layout of CAMELYON16, a CSV table of one's own slides (`load_table`), or a manifest.

    Args:
        path: folder or table; with `slides`, the name of a manifest on the Hub (`Cohort.push_to_hub`).
        slides: where the slides of the manifest lie.
        verify: compare their checksums, which takes as long as reading them all.
        revision: of the manifest.
        labels: a table of slides and labels that goes before the folder's own, see `load_camelyon16`.
    """
    if labels is not None and (slides is not None or Path(path).suffix.lower() in TABLE_SUFFIXES):
        raise ValueError(f"labels of their own are for a CAMELYON16 folder; {path} says itself what its slides are")
    if slides is not None:
        return load_manifest(str(path), slides, FEATURES, verify, revision)
    path = Path(path)
    if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        raise FileNotFoundError(f"there is no folder {path}; if it is a manifest on the Hub, say where its slides are")
    if path.is_file() and path.suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(f"{path.name} is not a table of slides ({', '.join(TABLE_SUFFIXES)}) nor a folder ({path})")
    return load_table(path) if path.suffix.lower() in TABLE_SUFFIXES else load_camelyon16(path, labels)


def load_camelyon16(folder: str | Path, labels: str | Path | None = None) -> Cohort:
    """Load CAMELYON16, or a cohort in its form, from either layout.

        images/{normal,tumor,test}_NNN.tif   annotations/*.xml              evaluation/reference.csv
        training/{normal,tumor}/*.tif        training/lesion_annotations/   testing/images/   testing/reference.csv

    Training labels come from the slides' names, test labels from reference.csv (name, class Normal or Tumor; with or
    without a header). A label without its slide is an error; a test slide without a label is left out, with a warning,
    and so are the slides that CAMELYON16 has withdrawn.

    Args:
        folder: in one of the layouts.
        labels: a table such as CAMELYON+'s (`label_file.read_labels`): the labels of all slides, and slides that it
            removes or does not list are left out. Splits stay. An annotation of a slide that it calls benign is not
            used; a slide that it calls malignant and that has none counts for the AUC alone.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no cohort folder {folder}")
    slides = find_slides(folder)
    if not slides:
        raise ValueError(
            f"no slides in {folder}; expected images/{{normal,tumor,test}}_NNN.tif or training/ and testing/"
        )
    reference = read_reference(folder)
    if labels is None:
        _check_labels(reference, slides)
    for slide_id in sorted(set(WITHDRAWN) & set(slides)):
        logger.warning("%s is left out: %s", slide_id, WITHDRAWN[slide_id])
    known = {name: _released_label(name, reference) for name in slides if name not in WITHDRAWN}
    if labels is not None:
        known = {**corrected(known, labels)}
        if unused := [name for name, label in known.items() if label == 0 and slides[name][1]]:
            logger.warning("%s calls slides benign whose annotations are not used: %s", Path(labels).name, some(unused))
    synthetic = (folder / SYNTHETIC).exists()
    partly = frozenset() if synthetic else NOT_IN_FROC | NOT_EXHAUSTIVELY_ANNOTATED
    rows = []
    for slide_id, label in known.items():
        if label is not None:
            path, annotation = slides[slide_id]
            split = "test" if slide_id.startswith("test") else "train"
            outline = str(annotation) if label and annotation else None
            exhaustive = not label or slide_id not in partly
            rows.append(cohort_row(slide_id, path, label, split=split, annotation=outline, exhaustive=exhaustive))
    name, licence = ("synthetic slides", "apache-2.0") if synthetic else ("CAMELYON16", "cc0-1.0")
    return Cohort.of(rows, FEATURES, name if labels is None else f"{name}, labels of {Path(labels).name}", licence)


def split_validation(cohort: Cohort, fraction: float, seed: int) -> Cohort:
    """Turn a share of the training slides into a validation split, the same share of each label (at least one slide).

    Args:
        cohort: a cohort without a validation split.
        fraction: of the training slides of each label; 0 leaves the cohort as it is.
        seed: of the choice.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be in [0, 1), not {fraction}")
    splits, labels = list(cohort["split"]), np.array(labels_of(cohort))
    if fraction == 0:
        return cohort
    if "validation" in splits:
        raise ValueError("the cohort has a validation split already")
    rng = np.random.default_rng(seed)
    for label, name in enumerate(LABELS):
        train = np.flatnonzero((np.array(splits) == "train") & (labels == label))
        count = max(1, round(fraction * len(train)))
        if count >= len(train):
            raise ValueError(
                f"{len(train)} {name} training slides are too few to set {fraction:.0%} aside for validation"
            )
        for row in rng.permutation(train)[:count]:
            splits[row] = "validation"
    return Cohort.from_dict({**cohort.to_dict(), "split": splits}, features=cohort.features, info=cohort.info)


def open_slide(row: Mapping[str, Any], mpp: float | None = None) -> Slide:
    """Open the slide of a cohort's row.

    Args:
        row: of a cohort; its own mpp comes before the file's.
        mpp: um per level-0 pixel, used where neither the row nor the file says.
    """
    return Slide(row["path"], row.get("mpp"), fallback_mpp=mpp)


def find_slides(folder: Path) -> dict[str, tuple[Path, Path | None]]:
    """Find {slide_id: (slide, its annotation)}, by name, whatever of it is in capitals."""
    found: dict[str, tuple[Path, Path | None]] = {}
    for images, annotations in SLIDE_FOLDERS:
        outlines = {path.stem.lower(): path for path in _files(folder, annotations, ".xml", ".geojson")}
        for path in _files(folder, images, ".tif", ".tiff"):
            slide_id = path.stem.lower()
            if not SLIDE_NAME.fullmatch(slide_id):
                logger.warning("%s is left out: its name is not normal_NNN, tumor_NNN or test_NNN", path)
            elif slide_id in found:
                raise ValueError(f"slide {slide_id} is there twice: {found[slide_id][0]} and {path}")
            else:
                found[slide_id] = path, outlines.get(slide_id)
    return dict(sorted(found.items()))


def _files(folder: Path, place: str, *suffixes: str) -> list[Path]:
    """The files of these suffixes in a folder of the release, whose name may be in capitals too."""
    places = [folder]
    for name in place.split("/"):
        places = [
            sub for above in places for sub in sorted(above.iterdir()) if sub.is_dir() and sub.name.lower() == name
        ]
    files = [path for above in places for path in sorted(above.iterdir())]
    return [path for path in files if path.suffix.lower() in suffixes and not is_hidden(path)]


def read_reference(folder: Path) -> dict[str, int]:
    """Read {test slide: label} from reference.csv; empty where there is none."""
    tables = [path for place in REFERENCES for path in _files(folder, place, ".csv")]
    path = next((path for path in tables if path.stem.lower() == "reference"), None)
    if path is None:
        return {}
    text, labels = read_text(path), {}
    separator = max(SEPARATORS, key=text.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t")
    lines = [[field.strip() for field in line] for line in reader if any(line)]
    for number, line in enumerate(lines, 1):
        label = label_number(line[1]) if len(line) > 1 else None
        if label is None and number == 1:
            continue  # the header
        if label is None:
            raise ValueError(
                f"{path}: entry {number} ({','.join(line)}) has no class Normal or Tumor in its second column"
            )
        labels[Path(line[0].lower()).name.removesuffix(".tif")] = label
    return labels


def _released_label(slide_id: str, reference: Mapping[str, int]) -> int | None:
    """A slide's label by its name, or by reference.csv; None where neither says."""
    return reference.get(slide_id) if slide_id.startswith("test") else int(slide_id.startswith("tumor"))


def _check_labels(labels: dict[str, int], slides: Iterable[str]) -> None:
    without_slide = sorted(set(labels) - set(slides) - set(WITHDRAWN))
    if without_slide:
        raise ValueError(
            f"reference.csv labels slides that are not there: {some(without_slide)}; add the files or remove the lines"
        )
    without_label = sorted(s for s in slides if s.startswith("test_") and s not in labels and s not in WITHDRAWN)
    if without_label:
        logger.warning("test slides without a label in reference.csv are left out: %s", some(without_label))
