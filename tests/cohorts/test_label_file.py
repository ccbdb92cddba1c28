"""Labels from a file of their own, as CAMELYON+ publishes them."""

from pathlib import Path

import pytest

from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.cohorts.label_file import read_labels, slide_key
from wsi_hf.job.options import job_parser, parse
from wsi_hf.job.slides import slides_of

NAMES = ("normal_001", "normal_002", "tumor_001", "tumor_002", "test_001", "test_114")
CORRECTED = (
    "slide,label\nnormal_001,negative\nnormal_002,ITC\ntumor_001,negative\ntest_114,macro\npatient_100_node_0,micro\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Empty files: loading a cohort opens no slide."""
    for name in (*(f"images/{name}.tif" for name in NAMES), "annotations/tumor_001.xml", "annotations/tumor_002.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/reference.csv").write_text("test_001,Normal\ntest_114,Tumor\n")
    return tmp_path


def labels(folder: Path, text: str) -> Path:
    (folder / "plus.csv").write_text(text)
    return folder / "plus.csv"


def test_the_file_corrects_labels_and_leaves_slides_out(folder, caplog):
    cohort = load_cohort(folder, labels=labels(folder, CORRECTED))
    rows = {row["slide_id"]: (row["label"], row["split"]) for row in cohort}
    assert rows == {
        "normal_001": (0, "train"),
        "normal_002": (1, "train"),
        "tumor_001": (0, "train"),
        "test_114": (1, "test"),
    }
    assert "removes or does not list 2 slides; left out: test_001, tumor_002" in caplog.text
    assert "another label for 2 slides: normal_002 malignant, tumor_001 benign" in caplog.text
    assert "calls slides benign whose annotations are not used: tumor_001" in caplog.text
    assert cohort.info.dataset_name == "CAMELYON16, labels of plus.csv"


def test_what_is_judged_pixel_by_pixel_follows_the_files_labels(folder):
    text = "slide,label\ntumor_001,negative\ntumor_002,micro\nnormal_002,macro\ntest_114,negative\n"
    rows = {row["slide_id"]: row for row in load_cohort(folder, labels=labels(folder, text))}
    assert {name for name, row in rows.items() if row["annotation"]} == {"tumor_002"}
    assert all(row["exhaustive"] for row in rows.values())  # a benign slide has no tumour outside its outlines


def test_test_slides_need_no_reference_csv(folder):
    (folder / "evaluation/reference.csv").unlink()
    cohort = load_cohort(folder, labels=labels(folder, CORRECTED))
    assert [row["slide_id"] for row in cohort if row["split"] == "test"] == ["test_114"]


@pytest.mark.parametrize(
    "text",
    [
        "slide_id,label,split\nnormal_001,0,test\ntumor_001,1,test\nx,removed,\n",
        "Label;Slide\r\nNegative;Normal_001.tif\r\nMicro;tumor_001\r\nExcluded;x\r\n",
        "slide_path,label\n/data/feats/normal_001.pt,benign\nC:\\feats\\tumor_001.h5,malignant\nx,removed\n",
    ],
)
def test_files_that_others_made_of_it_are_read(tmp_path, text):
    assert read_labels(labels(tmp_path, text)) == {"normal_001": 0, "tumor_001": 1, "x": None}


def test_names_are_compared_without_folder_suffix_and_capitals():
    assert slide_key("/a/Test_001.tif") == slide_key("test_001") == "test_001"
    assert slide_key("a.b.svs") == "a.b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,label\ntest_001,unclear\n", r"plus.csv, line 2: test_001 has the label 'unclear'"),
        ("slide,label\ntest_001,2\n", r"line 2: test_001 has the label '2'; labels are negative, itc, micro, macro"),
        ("slide,label\ntest_001,itc\n\nTest_001.tif,negative\n", r"line 4: Test_001.tif has another label .* line 2"),
        ("slide,label\npatient_1_node_0,itc\n", r"plus.csv labels no slide of the cohort: it names patient_1_node_0"),
        ("slide,label\n", r"labels no slide of the cohort: it names none"),
        ("name,label\ntest_001,itc\n", r"plus.csv, line 2: no slide in a column slide, slide_id, slide_path"),
        ("slide,stage\ntest_001,itc\n", r"plus.csv has no column label"),
    ],
)
def test_bad_files_are_named_with_line_and_slide(folder, text, message):
    with pytest.raises(ValueError, match=message):
        load_cohort(folder, labels=labels(folder, text))


def test_a_table_has_its_labels_already(folder):
    (folder / "slides.csv").write_text("path,label\nimages/test_001.tif,benign\n")
    with pytest.raises(ValueError, match="labels of their own are for a CAMELYON16 folder"):
        load_cohort(folder / "slides.csv", labels=labels(folder, CORRECTED))


def test_the_training_takes_them(folder):
    file = labels(folder, CORRECTED)
    given = parse(
        job_parser(), ["--use_cpu", "True", "--cohort", str(folder), "--labels", str(file), "--recipe", "demo"]
    )[0]
    assert slides_of(given, seed=0).train["slide_id"][:] == ["normal_001", "normal_002", "tumor_001"]
