"""Tables as other programs write them, and data sets of one's own."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from wsi_hf.cohorts.camelyon16 import load_cohort, split_validation
from wsi_hf.cohorts.manifest import Cohort
from wsi_hf.cohorts.rows import as_cohort

PLAIN = "path,label,mpp\na.tif,malignant,0.25\nb.tif,benign,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.tif", "b.tif", "ü.tif", "more/b.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def load(folder: Path, data: bytes) -> Cohort:
    (folder / "t.csv").write_bytes(data)
    return load_cohort(folder / "t.csv")


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        PLAIN.replace(",", ";").replace("0.25", "0,25").encode(),
        PLAIN.replace(",", "\t").encode(),
        ("sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n")).encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.upper().replace("TIF", "tif").replace("A.", "a.").replace("B.", "b.").encode(),
        b"Label , Path,note, MPP\nTUMOR,a.tif,x,0.25\nNormal,b.tif,,nan\n",
        b'path,label,mpp,,\n"a.tif",cancer,"0,25",,\nb.tif,0.0,n/a,,\n,,,,\n',
        PLAIN.replace("\n", "\r").encode(),
    ],
)
def test_what_is_unambiguous_is_read(folder, data):
    cohort = load(folder, data)
    assert (cohort["label"][:], cohort["mpp"][:]) == ([1, 0], [0.25, None])
    assert cohort["slide_id"][:] == ["a", "b"]


def test_a_table_of_an_older_encoding_is_read_and_said(folder, caplog):
    assert load(folder, "path,label\nü.tif,1\n".encode("cp1252"))["slide_id"] == ["ü"]
    assert "t.csv is not UTF-8; it is read as Windows-1252" in caplog.text


def test_slashes_of_another_system_are_read(folder):
    assert load(folder, b"path,label\nmore\\b.tif,1\n")["path"] == [str(folder / "more/b.tif")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;label\na.tif;1\n", r"t\.csv has no column path; .* reads 'file', 'label'"),
        ("path,label,label\na.tif,1,0\n", r"t\.csv has two columns label"),
        ("path,label,mpp\na.tif,1,0,25\n", r"t\.csv, line 2: 4 cells, but the first line names 3"),
        ("path,label,mpp\na.tif,1,\nb.tif,0,fine\n", r"t\.csv, line 3: b\.tif has mpp 'fine'; a number such as 0\.25"),
        ("path,label\na.tif,2\n", r"t\.csv, line 2: a\.tif has label '2'"),
        ("path,label\n,1\n", r"t\.csv, line 2: no path"),
        ("path,label,slide_id\na.tif,1,../../x\n", r"t\.csv: 1 slide_ids cannot be names of files"),
        ("path,label\nb.tif,1\nmore/b.tif,0\n", r"t\.csv lists slides twice: b; give each"),
        ("path,label,slide_id\na.tif,1,N\nb.tif,0,n\n", r"t\.csv lists slides twice: N, n \(capitals"),
        ("PK\x03\x04", r"t\.csv is a workbook or an archive"),
        ("", r"t\.csv has no column label, path; .* reads nothing"),
    ],
)
def test_the_rest_is_named_by_file_line_and_what_was_found(folder, text, message):
    with pytest.raises(ValueError, match=message):
        load(folder, text.encode())


def test_a_file_that_is_no_table_is_said(folder):
    with pytest.raises(ValueError, match=r"a\.tif is not a table of slides"):
        load_cohort(folder / "a.tif")


def test_names_in_capitals_are_found_and_what_macos_leaves_is_not(tmp_path):
    for name in (
        "Images/NORMAL_001.TIF",
        "Images/._NORMAL_001.TIF",
        "Images/tumor_001.tif",
        "ANNOTATIONS/tumor_001.XML",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    cohort = load_cohort(tmp_path)
    assert cohort["slide_id"][:] == ["normal_001", "tumor_001"]
    assert cohort["annotation"][1] == str(tmp_path / "ANNOTATIONS/tumor_001.XML")


def test_reference_csv_may_have_semicolons(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/test_001.tif").touch()
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/Reference.CSV").write_text("image;class\ntest_001.tif;Tumor\n")
    assert load_cohort(tmp_path)["label"] == [1]


def own(labels: list, names: list[str] | None = None) -> Dataset:
    slides = Dataset.from_dict({"path": [f"s{i}.tif" for i in range(len(labels))], "label": labels})
    return slides if names is None else slides.class_encode_column("label")


@pytest.mark.parametrize(
    "slides",
    [
        own(["normal", "cancer", "normal"]),
        own(["normal", "cancer", "normal"], []),  # sorted by name: cancer is 0
        own([0, 1, 0]), own([0.0, 1.0, 0.0]), own([False, True, False]), own(["0", "1", "0"]),
        own(["non-tumor", "tumor", "non-tumor"]),
    ],
)  # fmt: skip
def test_labels_of_ones_own_data_set_are_told_by_name(slides):
    cohort = as_cohort(slides)
    assert cohort["label"][:] == [0, 1, 0]
    assert cohort["slide_id"][:] == ["s0", "s1", "s2"]
    assert Path(cohort["path"][0]).is_absolute()


@pytest.mark.parametrize("labels", [[1, 2], [0, None], ["grade 1", "grade 2"], [0.5, 1.0], [[0], [1]]], ids=str)
def test_other_labels_are_refused(labels):
    with pytest.raises(ValueError, match="of the data set has the label"):
        as_cohort(own(labels))


def test_what_is_made_of_a_cohort_still_hides_local_paths(folder):
    for i in range(6):
        (folder / f"s{i}.tif").touch()
    cohort = load(folder, ("path,label\n" + "".join(f"s{i}.tif,{i % 2}\n" for i in range(6))).encode())
    for part in (
        cohort.map(lambda row: row), cohort.filter(lambda row: row["label"] == 1), cohort.sort("label"), cohort.take(2),
        cohort.shuffle(seed=0), cohort.train_test_split(0.5, seed=0)["train"], cohort.shard(2, 0), cohort.select([1]),
        split_validation(cohort, 0.34, 0), cohort.with_format("numpy"), cohort.remove_columns("mpp"),
    ):  # fmt: skip
        assert isinstance(part, Cohort)
    assert isinstance(cohort.with_format("numpy")["label"][:], np.ndarray)
