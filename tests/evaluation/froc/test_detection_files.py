import numpy as np
import pytest

from wsi_hf.evaluation.froc.detection_files import read_detection_folder, read_detections, write_detections


def test_detections_come_back_with_every_digit_of_their_score(tmp_path):
    detections = np.array([[0.1 + 0.2, 31, 7], [1 - 2**-53, 220_000, 0], [-17.25, 1, 1]])
    write_detections(tmp_path / "test_001.csv", detections)
    assert (read_detections(tmp_path / "test_001.csv") == detections).all()
    assert (tmp_path / "test_001.csv").read_text().splitlines()[0] == "0.30000000000000004,31,7"
    assert [path.name for path in tmp_path.iterdir()] == ["test_001.csv"]


def test_an_empty_file_is_a_slide_without_detections(tmp_path):
    write_detections(tmp_path / "test_002.csv", [])
    assert read_detections(tmp_path / "test_002.csv").shape == (0, 3)


def test_a_folder_is_read_by_slide(tmp_path):
    write_detections(tmp_path / "test_001.csv", [(0.5, 1, 2)])
    write_detections(tmp_path / "test_002.csv", [])
    assert {name: len(found) for name, found in read_detection_folder(tmp_path).items()} == {
        "test_001": 1,
        "test_002": 0,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("score,x,y\n0.5,1,2\n", r"test_003.csv, line 1: 'score,x,y' is not"),
        ("0.5,1,2\n0.4,left,2\n", r"test_003.csv, line 2: '0.4,left,2'"),
        ("0.5,1\n", "line 1"),
        ("0.5 1 2\n", "line 1"),
        ("nan,1,2\n", "test_003: detection 0 holds NaN"),
        ("0.5,-1,2\n", "test_003: detection 0 has negative coordinates"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_line(tmp_path, text, reason):
    (tmp_path / "test_003.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_detections(tmp_path / "test_003.csv")


def test_bad_detections_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="test_004: detection 0 has negative coordinates"):
        write_detections(tmp_path / "test_004.csv", [(0.5, -1, 2)])
    assert list(tmp_path.iterdir()) == []
