"""A table of one's own slides."""

from pathlib import Path
from typing import Any

from wsi_hf.cohorts.manifest import Cohort
from wsi_hf.cohorts.rows import FEATURES, LABELS, SPLITS, cohort_row, label_number, some
from wsi_hf.cohorts.text_tables import NOTHING, number_of, read_table
from wsi_hf.slides.files import slide_name
from wsi_hf.slides.names import check_names

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
SPLIT_NAMES = {name: name for name in SPLITS} | {
    "": "train", "training": "train", "val": "validation", "valid": "validation", "testing": "test",
}  # fmt: skip
YES_OR_NO = {"": True, "yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def load_table(path: str | Path) -> Cohort:
    """Load one's own slides from a CSV table with a header.

    Columns: path, label (benign or malignant; also normal/tumor and others, 0/1), and where wanted slide_id (else from
    the file's name), split (train, validation or test; else train), annotation, tissue (a mask of one's own, see
    `slides.tissue_masks`), mpp (this overrides the file's), exhaustive (no where some tumour lies outside the outlines:
    the slide then counts for the AUC alone). Paths are relative to the table.
    """
    path = Path(path).absolute()
    rows = [_row(path, number, cells) for number, cells in read_table(path, {"path", "label"})]
    if not rows:
        raise ValueError(f"no slides in {path}")
    files = [file for row in rows for file in (row["path"], row["annotation"], row["tissue"]) if file]
    if absent := [file for file in files if not Path(file).exists()]:
        raise ValueError(f"{path.name} lists files that are not there: {some(absent)}; paths are relative to the table")
    check_names([row["slide_id"] for row in rows], path.name)
    return Cohort.of(rows, FEATURES, None, None)


def _row(table: Path, number: int, cells: dict[str, str]) -> dict[str, Any]:
    where = f"{table.name}, line {number}"
    if not cells.get("path"):
        raise ValueError(f"{where}: no path ({table})")
    where, path = f"{where}: {cells['path']}", _file(table, cells["path"])
    label, split = label_number(cells.get("label", "")), SPLIT_NAMES.get(cells.get("split", "").lower())
    if label is None or split is None:
        raise ValueError(
            f"{where} has label {cells.get('label', '')!r} and split {cells.get('split', '')!r}; "
            f"labels are {LABELS}, splits {list(SPLITS)}"
        )
    exhaustive = YES_OR_NO.get(cells.get("exhaustive", "").lower())
    if exhaustive is None:
        raise ValueError(f"{where} has exhaustive {cells['exhaustive']!r}; say yes or no")
    given = cells.get("mpp", "")
    mpp = None if given.lower() in NOTHING else number_of(given)
    if mpp is None and given.lower() not in NOTHING:
        raise ValueError(f"{where} has mpp {given!r}; a number such as 0.25 is expected")
    files = {name: str(_file(table, cells[name])) for name in ("annotation", "tissue") if cells.get(name)}
    slide_id = cells.get("slide_id") or slide_name(path)
    return cohort_row(slide_id, path, label, split=split, mpp=mpp, exhaustive=exhaustive, **files)


def _file(table: Path, name: str) -> Path:
    """A path of the table; with the slashes of this system, where only they are in the way."""
    path = table.parent / name
    other = table.parent / name.replace("\\", "/")
    return other if not path.exists() and other.exists() else path
