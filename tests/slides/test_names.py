"""What slides are called, and which files they are made of."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import FileMetaDataset

from wsi_hf.slides.files import slide_files, slide_name, slides_in
from wsi_hf.slides.names import LONGEST, check_names, no_formula, safe_name
from wsi_hf.slides.slide import Slide, SlideError


@pytest.mark.parametrize("name", ["a", "TCGA-CR-7395-01A-01-TS1.F9AE", "Schnitt Ü 1", "slide.ome", "x" * LONGEST])
def test_ordinary_names_are_kept(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../x", "_._.._x"), ("case1/b", "case1_b"), ("a\\b", "a_b"), (".", "_"), ("..", "__"), ("", "_"),
        (".hidden", "_hidden"), ("a.", "a_"), (" a ", "a"), ("a:b?", "a_b_"), ("a\0\n", "a__"), ("\udcff", "_"),
        ("NUL", "_NUL"), ("com1.x", "_com1.x"), ("run.json", "run.json_"), ("e\u0301", "\u00e9"),
    ],
)  # fmt: skip
def test_other_names_become_the_nearest_that_is_a_files_on_every_system(name, safe):
    assert safe_name(name).replace("..", "__") == safe.replace("..", "__")
    assert safe_name(safe_name(name)) == safe_name(name)


def test_long_names_stay_apart():
    one, other = safe_name("ü" * 300), safe_name("ü" * 301)
    assert one != other
    assert len(one.encode()) <= LONGEST


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["../../x", "a"], r"t\.csv: 1 slide_ids cannot be names of files .*'\.\./\.\./x'"),
        (["case1/b"], "case1/b"),
        (["y" * 250], "cannot be names"),
        (["run.json"], "say 'run.json_'"),
        ([7], "cannot be names"),
        (["N1", "n1"], r"lists slides twice: N1, n1 \(capitals do not tell files apart\)"),
        (["a", "a"], "lists slides twice: a; give each"),
    ],
)
def test_a_cohort_whose_names_cannot_be_files_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        check_names(names, "t.csv")


def test_a_spreadsheet_runs_no_cell():
    assert [no_formula(cell) for cell in ("=1+1", "@x", "-2", "a=1", -2.0)] == ["'=1+1", "'@x", "'-2", "a=1", -2.0]


def dicom(path: Path, series: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    file = pydicom.Dataset()
    file.SeriesInstanceUID, file.SOPInstanceUID = series, f"{series}.9"
    file.SOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.save_as(path, enforce_file_format=True)
    return path


def test_a_dicom_slide_is_its_series(tmp_path):
    one = tmp_path / "case.v1.2"
    a = [dicom(one / "a1.dcm", "1.2.3"), dicom(one / "a2.DCM", "1.2.3")]
    assert slide_name(one) == slide_name(a[0]) == "case.v1.2"  # and not case.v1
    assert slide_files(a[0]) == a
    assert slides_in(tmp_path) == [one]
    b = dicom(one / "b.dcm", "1.2.4")
    (one / "._b.dcm").write_bytes(b"\0")
    assert [slide_name(file) for file in (*a, b)] == ["case.v1.2_1.2.3", "case.v1.2_1.2.3", "case.v1.2_1.2.4"]
    assert slide_files(b) == [b]
    assert slides_in(tmp_path) == slides_in(one) == [a[0], b]
    with pytest.raises(SlideError, match=r"case\.v1\.2 holds 2 DICOM slides; pass a file of each: a1\.dcm, b\.dcm"):
        Slide(one)


def test_what_macos_leaves_beside_slides_is_none(tmp_path):
    for name in ("a.TIF", "._a.TIF", "b.svs", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".hidden").mkdir()
    assert [path.name for path in slides_in(tmp_path)] == ["a.TIF", "b.svs"]


def write(path: Path, value: int, side: int = 64) -> Path:
    pixels = np.full((side, side, 3), value, np.uint8)
    scale = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(32, 32), photometric="rgb", metadata=None, **scale)
    return path


def test_a_file_replaced_under_its_name_is_another_slide(tmp_path):
    path = write(tmp_path / "a.tif", 10)
    old = Slide(path)
    assert old.read_region_px((0, 0), (1, 1), 1.0).tolist() == [[[10, 10, 10]]]
    os.replace(write(tmp_path / "b.tif", 200, side=96), path)
    new = Slide(path)
    assert (new.dimensions_l0, new.read_region_px((0, 0), (1, 1), 1.0)[0, 0, 0]) == ((96, 96), 200)
    with pytest.raises(SlideError, match=r"a\.tif was replaced by another slide"):
        old.read_region_px((0, 0), (1, 1), 1.0)


def test_a_relative_path_outlives_a_change_of_folder(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write(tmp_path / "one/a.tif", 10)
    write(tmp_path / "two/a.tif", 200)
    monkeypatch.chdir(tmp_path / "one")
    slide = Slide("a.tif")
    monkeypatch.chdir(tmp_path / "two")
    assert slide.read_region_px((0, 0), (1, 1), 1.0)[0, 0, 0] == 10
    assert Slide("a.tif").read_region_px((0, 0), (1, 1), 1.0)[0, 0, 0] == 200
