"""The check of a cohort's files: on a real cohort, damaged in every way that copies are."""

import hashlib
import shutil
from pathlib import Path

import pytest
import tifffile

from wsi_hf.cli import main
from wsi_hf.cohorts.camelyon16 import NOT_EXHAUSTIVELY_ANNOTATED, RELEASE
from wsi_hf.cohorts.check import check_cohort


@pytest.fixture
def cohort(tiny_cohort: Path, tmp_path: Path) -> Path:
    """A copy of the session's cohort, to be damaged."""
    return Path(shutil.copytree(tiny_cohort, tmp_path / "cohort"))


def bad(path: Path, **options) -> list[str]:
    return [str(finding) for finding in check_cohort(path, **options) if finding.bad]


def odd(path: Path) -> list[str]:
    return [str(finding) for finding in check_cohort(path) if finding.kind == "odd"]


def test_a_good_cohort_has_nothing_in_the_way(tiny_cohort, capsys):
    assert main(["evaluate", "--check", "--cohort", str(tiny_cohort)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "nothing stands in the way"
    assert any("slides scanned at 0.486 um/px" in line for line in lines)


def test_a_broken_cohort_fails_the_command(cohort, capsys):
    (cohort / "annotations/tumor_001.xml").unlink()
    assert main(["evaluate", "--check", "--cohort", str(cohort)]) == 1
    assert "missing annotations of 1 malignant slides: tumor_001" in capsys.readouterr().out


def test_a_slide_that_was_cut_short_is_named(cohort):
    path = cohort / "images/normal_001.tif"
    path.write_bytes(path.read_bytes()[:-2000])
    (line,) = bad(cohort)
    assert line.startswith("broken")
    assert "normal_001" in line


def test_a_file_that_is_no_slide_is_named(cohort):
    (cohort / "images/test_001.tif").write_bytes(b"<html>404</html>")
    (line,) = bad(cohort)
    assert "test_001" in line


def test_labels_that_are_missing_or_too_many_are_named(cohort):
    reference = cohort / "evaluation/reference.csv"
    lines = reference.read_text().splitlines()
    reference.write_text("\n".join([*lines[1:], "test_099,Normal,None,None"]))
    assert bad(cohort) == [
        "missing reference.csv lacks the labels of 1 test slides: test_001",
        "missing reference.csv labels 1 slides that are not here: test_099",
    ]
    reference.write_text("test_001,Perhaps\ntest_002,Unclear\n")
    assert "no class Normal or Tumor" in bad(cohort)[0]
    reference.unlink()
    assert bad(cohort)[0].startswith("missing reference.csv, the test slides' labels")


def test_outlines_that_are_broken_empty_or_of_another_slide_are_named(cohort):
    folder = cohort / "annotations"
    text = (folder / "tumor_001.xml").read_text()
    (folder / "tumor_002.xml").write_text(text[: len(text) // 2])
    (folder / "tumor_003.xml").write_text(text.replace('"Tumor"', '"Lymphocytes"'))
    (folder / "tumor_004.xml").write_text(text.replace('X="', 'X="9'))
    shutil.copy(folder / "tumor_001.xml", folder / "normal_001.xml")
    two, three, four = bad(cohort)
    assert "tumor_002" in two
    assert "tumor_003.xml holds no tumour, but annotations of 'lymphocytes'" in three
    assert "tumor_004: tumor_004.xml spans" in four
    assert odd(cohort) == ["odd     normal_001 is benign, but has an annotation (normal_001.xml); it is not used"]


def test_checksums_are_compared_in_either_layout(cohort):
    slide = cohort / "images/normal_001.tif"
    digest = hashlib.md5(slide.read_bytes()).hexdigest()
    (cohort / "checksums.md5").write_text(
        f"{digest}  images/normal_001.tif\n{'0' * 32} *./training/normal/normal_002.tif\n{'1' * 32}  masks/absent.tif\n"
    )
    assert bad(cohort) == ["broken  images/normal_002.tif differs from its checksum; copy it again"]
    note = str(list(check_cohort(cohort))[-1])
    assert "2 files were compared" in note
    assert "1 listed files are not here: masks/absent.tif" in note


def test_the_releases_facts_are_known(cohort):
    assert [len(RELEASE[kind]) for kind in ("normal", "tumor", "test")] == [159, 111, 129]
    (cohort / "synthetic.json").unlink()  # now its names are CAMELYON16's
    images = cohort / "images"
    for name in ("normal_027", "normal_086", "test_049", "test_114", "tumor_010"):
        shutil.copy(images / "normal_001.tif", images / f"{name}.tif")
    told = odd(cohort)
    for text in ("normal_086 is relabelled", "test_049 is a duplicate", "test_114 has tumour outside its outlines"):
        assert any(text in line for line in told), text
    assert any("1 training slides have tumour outside" in line and "tumor_010" in line for line in told)
    assert any("normal_027 is lost entirely by well-known tissue masks" in line for line in told)
    assert "missing 154 of the release's 159 normal slides: normal_005" in bad(cohort)[1]
    assert RELEASE["tumor"] > NOT_EXHAUSTIVELY_ANNOTATED


def test_a_slide_without_mpp_is_broken_unless_it_is_given(cohort):
    path = cohort / "images/normal_001.tif"
    pixels = tifffile.imread(path)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb")
    (line,) = bad(cohort)
    assert "normal_001" in line
    assert "mpp" in line
    assert bad(cohort, mpp=0.486) == []


def test_a_table_of_ones_own_is_checked_too(cohort):
    table = cohort / "slides.csv"
    table.write_text("path,label,exhaustive\nimages/normal_001.tif,benign,\nimages/tumor_001.tif,malignant,no\n")
    assert bad(table) == []
    assert any("without an annotation count for the AUC alone (1): tumor_001" in str(f) for f in check_cohort(table))
    (cohort / "images/normal_001.tif").write_bytes(b"")
    assert "normal_001" in bad(table)[0]
    table.write_text("path\nimages/normal_001.tif\n")
    assert "no column label" in bad(table)[0]


def test_folders_without_slides_and_slides_twice_are_said(tmp_path):
    assert "there is no cohort" in bad(tmp_path / "nowhere")[0]
    assert "no slides in" in bad(tmp_path)[0]
    for folder in ("images", "training/normal"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "normal_001.tif").touch()
    assert "normal_001 is there twice" in bad(tmp_path)[0]
