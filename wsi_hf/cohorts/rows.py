"""What a cohort says of a slide, and what labels mean."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

from wsi_hf.cohorts.manifest import Cohort
from wsi_hf.models.class_names import is_malignant
from wsi_hf.slides.files import slide_name
from wsi_hf.slides.names import check_names

LABELS = ["benign", "malignant"]
SPLITS = ("train", "validation", "test")
FEATURES = Features(
    {
        "slide_id": Value("string"),
        "path": Value("string"),
        "label": ClassLabel(names=LABELS),
        "split": Value("string"),
        "annotation": Value("string"),
        "mpp": Value("float64"),
        "exhaustive": Value("bool"),
        "tissue": Value("string"),
    }
)
NUMBERS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


def label_number(label: object) -> int | None:
    """0 of a benign slide, 1 of a malignant one: by a word (see `models.class_names`), 0, 1, or a truth; else None."""
    if isinstance(label, str):
        word = label.strip().lower()
        malignant = is_malignant(word)
        return NUMBERS.get(word) if malignant is None else int(malignant)
    known = isinstance(label, bool | int | float | np.integer | np.bool_) and label in (0, 1)
    return int(label) if known else None  # type: ignore[call-overload]


def cohort_row(slide_id: str, path: str | Path, label: int, **more: Any) -> dict[str, Any]:
    """One row of a cohort; what is not said is a training slide with all its tumour outlined, if any is."""
    row = dict.fromkeys(FEATURES) | {"split": "train", "exhaustive": True}
    return row | {"slide_id": slide_id, "path": str(path), "label": label} | more


def as_cohort(slides: Dataset) -> Cohort:
    """Any data set of slides as a cohort: path and label are needed; labels are told by their names.

    Raises:
        ValueError: a column is missing, a label is neither benign nor malignant, or a name cannot be a file's.
    """
    missing = {"path", "label"} - set(slides.column_names)
    if missing:
        raise ValueError(
            f"a data set of slides has the columns path and label; {', '.join(sorted(missing))} is missing "
            f"(it has {', '.join(slides.column_names)})"
        )
    if not len(slides):
        raise ValueError("the data set holds no slides")
    given = [name for name in FEATURES if name in slides.column_names and name != "label"]
    rows = []
    for label, *values in zip(labels_of(slides), *(slides[name] for name in given), strict=True):
        row = {name: value for name, value in zip(given, values, strict=True) if value is not None}
        row["path"] = str(Path(row["path"]).absolute())
        rows.append(cohort_row(**({"slide_id": slide_name(row["path"])} | row | {"label": label})))
    check_names([row["slide_id"] for row in rows], "the data set")
    return Cohort.of(rows, FEATURES, slides.info.dataset_name, slides.info.license)


def labels_of(slides: Dataset) -> list[int]:
    """0 or 1 of every slide; the names of a `ClassLabel` decide, and not their order.

    Raises:
        ValueError: a label is neither benign nor malignant.
    """
    feature, labels = slides.features["label"], list(slides["label"])
    if isinstance(feature, ClassLabel):
        labels = [None if label is None or label < 0 else feature.names[label] for label in labels]
    numbers = [label_number(label) for label in labels]
    if None in numbers:
        row = numbers.index(None)
        raise ValueError(
            f"row {row} of the data set has the label {labels[row]!r}; labels are {' and '.join(LABELS)} (also normal, "
            "tumor, cancer and the like), or 0 and 1"
        )
    return [number for number in numbers if number is not None]


def some(names: list[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
