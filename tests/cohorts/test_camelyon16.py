"""CAMELYON16 in both layouts, and a table of one's own."""

from pathlib import Path

import pytest

from wsi_hf.cohorts.camelyon16 import (
    NOT_EXHAUSTIVELY_ANNOTATED,
    load_camelyon16,
    load_cohort,
    load_table,
    split_validation,
)


def make(folder: Path, *files: str, reference: str | None = None, at: str = "evaluation/reference.csv") -> Path:
    """Empty files: loading a cohort opens no slide."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if reference is not None:
        (folder / at).parent.mkdir(parents=True, exist_ok=True)
        (folder / at).write_text(reference)
    return folder


def rows(cohort) -> list[tuple]:
    names = cohort.features["label"].names
    return [(row["slide_id"], names[row["label"]], row["split"]) for row in cohort]


EXPECTED = [
    ("normal_001", "benign", "train"),
    ("test_001", "malignant", "test"),
    ("test_002", "benign", "test"),
    ("tumor_001", "malignant", "train"),
]
REFERENCE = "test_001,Tumor,IDC,Macro\ntest_002,Normal,None,None\n"


def cloud_copy(folder: Path, reference: str = REFERENCE) -> Path:
    names = ("normal_001", "tumor_001", "test_001", "test_002")
    xml = ("annotations/tumor_001.xml", "annotations/test_001.xml")
    return make(folder, *(f"images/{name}.tif" for name in names), *xml, reference=reference)


def test_the_cloud_copys_layout_is_read(tmp_path):
    cohort = load_camelyon16(cloud_copy(tmp_path))
    assert rows(cohort) == EXPECTED
    assert cohort["path"][0] == str(tmp_path / "images/normal_001.tif")
    annotations = dict(zip(cohort["slide_id"], cohort["annotation"], strict=True))
    assert annotations["tumor_001"] == str(tmp_path / "annotations/tumor_001.xml")
    assert annotations["test_001"] == str(tmp_path / "annotations/test_001.xml")
    assert annotations["normal_001"] is annotations["test_002"] is None


def test_the_first_releases_layout_is_read(tmp_path):
    folder = make(
        tmp_path,
        "training/normal/normal_001.tif",
        "training/tumor/tumor_001.tif",
        "training/lesion_annotations/tumor_001.xml",
        "testing/images/test_001.tif",
        "testing/images/test_002.tif",
        reference=REFERENCE,
        at="testing/reference.csv",
    )
    cohort = load_cohort(folder)
    assert rows(cohort) == EXPECTED
    assert cohort["annotation"][3] == str(tmp_path / "training/lesion_annotations/tumor_001.xml")


@pytest.mark.parametrize(
    "reference",
    [
        "name,class,type,size\n" + REFERENCE,
        "\ufeff" + REFERENCE,
        "test_001.tif, Tumor , IDC, Macro\r\ntest_002.tif, NORMAL\r\n\r\n",
    ],
)
def test_reference_csv_may_have_a_header_and_other_quirks(tmp_path, reference):
    assert rows(load_camelyon16(cloud_copy(tmp_path, reference))) == EXPECTED


def test_labels_never_come_from_annotations(tmp_path):
    folder = cloud_copy(tmp_path)
    make(folder, "annotations/normal_001.xml", "annotations/test_002.xml")
    (folder / "annotations/tumor_001.xml").unlink()
    cohort = load_camelyon16(folder)
    assert rows(cohort) == EXPECTED
    assert [row["annotation"] is None for row in cohort] == [True, False, True, True]


def test_withdrawn_slides_are_left_out_and_said(tmp_path, caplog):
    folder = cloud_copy(tmp_path, REFERENCE + "test_049,Tumor,IDC,Macro\n")
    assert rows(load_camelyon16(folder)) == EXPECTED  # its label alone is no error
    make(folder, "images/test_049.tif", "images/normal_086.tif")
    assert rows(load_camelyon16(folder)) == EXPECTED
    assert "test_049 is left out: a duplicate" in caplog.text
    assert "normal_086 is left out: relabelled" in caplog.text


def test_there_are_twenty_slides_that_are_not_exhaustively_annotated():
    assert len(NOT_EXHAUSTIVELY_ANNOTATED) == 20
    assert {"tumor_010", "tumor_110"} < NOT_EXHAUSTIVELY_ANNOTATED


def test_slides_whose_outlines_leave_tumour_out_are_marked(tmp_path):
    names = ("normal_010", "tumor_010", "tumor_011", "test_001", "test_114")
    folder = make(tmp_path, *(f"images/{name}.tif" for name in names), reference="test_001,Normal\ntest_114,Tumor\n")
    assert [row["slide_id"] for row in load_cohort(folder) if not row["exhaustive"]] == ["test_114", "tumor_010"]
    (folder / "synthetic.json").touch()  # CAMELYON16's names, not its slides
    assert all(load_cohort(folder)["exhaustive"])


def test_names_of_early_copies_are_read(tmp_path):
    folder = make(
        tmp_path, "training/normal/Normal_001.tif", "testing/images/Test_001.tif", "testing/images/Test_002.tif",
        "training/tumor/Tumor_001.tif", "training/lesion_annotations/Tumor_001.xml",
        reference="Test_001,Tumor,Macro\nTest_002,Normal,None\n", at="testing/reference.csv",
    )  # fmt: skip
    cohort = load_cohort(folder)
    assert rows(cohort) == EXPECTED
    assert cohort["annotation"][3] == str(tmp_path / "training/lesion_annotations/Tumor_001.xml")


def test_a_folder_without_slides_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no slides in .*; expected images/"):
        load_camelyon16(make(tmp_path, "images/readme.txt"))
    with pytest.raises(FileNotFoundError, match="no cohort folder"):
        load_camelyon16(tmp_path / "nowhere")


def test_a_label_without_a_slide_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"labels slides that are not there: test_003"):
        load_camelyon16(cloud_copy(tmp_path, REFERENCE + "test_003,Normal,None,None\n"))


def test_a_test_slide_without_a_label_is_left_out_and_said(tmp_path, caplog):
    folder = make(cloud_copy(tmp_path), "images/test_003.tif")
    assert rows(load_camelyon16(folder)) == EXPECTED
    assert "without a label in reference.csv are left out: test_003" in caplog.text
    (folder / "evaluation/reference.csv").unlink()
    assert set(load_camelyon16(folder)["split"]) == {"train"}


def test_an_unknown_class_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"entry 2 \(test_002,Unclear\) has no class Normal or Tumor"):
        load_camelyon16(cloud_copy(tmp_path, "test_001,Tumor\ntest_002,Unclear\n"))


def test_a_slide_that_is_there_twice_is_an_error(tmp_path):
    folder = make(tmp_path, "images/normal_001.tif", "training/normal/normal_001.tif")
    with pytest.raises(ValueError, match="normal_001 is there twice"):
        load_camelyon16(folder)


def test_other_files_are_left_out_and_said(tmp_path, caplog):
    assert rows(load_camelyon16(make(cloud_copy(tmp_path), "images/overview.tif"))) == EXPECTED
    assert "overview.tif is left out" in caplog.text


def table(folder: Path, text: str) -> Path:
    make(folder, "a.svs", "more/b.svs", "b.xml")
    (folder / "slides.csv").write_text(text)
    return folder / "slides.csv"


def test_a_table_of_ones_own_needs_paths_and_labels_only(tmp_path):
    cohort = load_cohort(table(tmp_path, "path,label\na.svs,benign\nmore/b.svs,malignant\n"))
    assert rows(cohort) == [("a", "benign", "train"), ("b", "malignant", "train")]
    assert cohort["path"] == [str(tmp_path / "a.svs"), str(tmp_path / "more/b.svs")]
    assert cohort["annotation"] == cohort["mpp"] == [None, None]


def test_a_table_may_say_more(tmp_path):
    header, far = "slide_id,path,label,split,annotation,mpp,note,exhaustive", f"{tmp_path}/more/b.svs"
    text = f"{header}\nx,a.svs,0,test,,0.25,n,\ny,{far},tumor,,b.xml,,,No\n"
    cohort = load_table(table(tmp_path, text))
    assert rows(cohort) == [("x", "benign", "test"), ("y", "malignant", "train")]
    assert cohort["annotation"] == [None, str(tmp_path / "b.xml")]
    assert cohort["mpp"] == [0.25, None]
    assert cohort["exhaustive"] == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.svs,benign\n", "no column label, path"),
        ("path,label\n", "no slides in"),
        ("path,label\na.svs,perhaps\n", "a.svs has label 'perhaps'"),
        ("path,label,split\na.svs,benign,holdout\n", "split 'holdout'"),
        ("path,label,exhaustive\na.svs,benign,partly\n", "a.svs has exhaustive 'partly'; say yes or no"),
        ("path,label\ngone.svs,benign\na.svs,benign\n", "files that are not there: .*gone.svs"),
        ("path,label,annotation\na.svs,malignant,gone.xml\n", "files that are not there: .*gone.xml"),
        ("path,label\na.svs,benign\na.svs,malignant\n", "lists slides twice: a"),
    ],
)
def test_a_bad_table_is_an_error(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_table(table(tmp_path, text))


def ten_slides(folder: Path):
    names = [f"images/{kind}_{i:03d}.tif" for kind, n in (("normal", 10), ("tumor", 5)) for i in range(1, n + 1)]
    return load_camelyon16(make(folder, *names, "images/test_001.tif", reference="test_001,Tumor\n"))


def test_validation_takes_the_same_share_of_each_label(tmp_path):
    cohort = ten_slides(tmp_path)
    split = split_validation(cohort, 0.2, seed=0)
    chosen = [row["slide_id"] for row in split if row["split"] == "validation"]
    assert [name.split("_")[0] for name in chosen] == ["normal", "normal", "tumor"]
    assert split["slide_id"] == cohort["slide_id"]
    assert split.features == cohort.features
    assert split["split"].count("test") == 1


def test_validation_follows_from_the_seed(tmp_path):
    cohort = ten_slides(tmp_path)
    assert split_validation(cohort, 0.4, seed=1)["split"] == split_validation(cohort, 0.4, seed=1)["split"]
    assert split_validation(cohort, 0.4, seed=1)["split"] != split_validation(cohort, 0.4, seed=2)["split"]


def test_a_share_that_cannot_be_taken_is_refused(tmp_path):
    cohort = ten_slides(tmp_path)
    assert split_validation(cohort, 0, seed=0)["split"] == cohort["split"]
    with pytest.raises(ValueError, match="fraction must be in"):
        split_validation(cohort, 1.0, seed=0)
    with pytest.raises(ValueError, match="training slides are too few to set 95% aside"):
        split_validation(cohort, 0.95, seed=0)
    with pytest.raises(ValueError, match="has a validation split already"):
        split_validation(split_validation(cohort, 0.2, seed=0), 0.2, seed=0)


def test_the_synthetic_cohort_is_read(tiny_cohort):
    cohort = load_cohort(tiny_cohort)
    count = {
        split: [cohort["label"][i] for i, s in enumerate(cohort["split"]) if s == split] for split in cohort["split"]
    }
    assert sorted(count["train"]) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert sorted(count["test"]) == [0, 0, 1, 1]
    assert all((row["annotation"] is not None) == (row["label"] == 1) for row in cohort)
