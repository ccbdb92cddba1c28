import numpy as np
import pytest

from wsi_hf.evaluation import blocks
from wsi_hf.evaluation.froc.detections import find_detections, reduce_to_cells


class LazyMap:
    """An array that counts what is read at once."""

    def __init__(self, array):
        self.array, self.shape, self.largest = array, array.shape, 0

    def __getitem__(self, key):
        part = self.array[key]
        self.largest = max(self.largest, part.size)
        return part


def find(array, **settings):
    settings = {"ratio": 1.0, "mpp": 1.0, "cell_um": 1.0, "radius_um": 1.0, "threshold": 0.1} | settings
    return find_detections(np.array(array, float), **settings).tolist()


def test_a_peak_hides_its_neighbours_within_the_radius():
    peaks = [[0.9, 0.8, 0.0, 0.7]]
    assert find(peaks) == [[0.9, 0, 0], [0.7, 3, 0]]
    assert find(peaks, radius_um=3.0) == [[0.9, 0, 0]]
    assert find(peaks, radius_um=2.9) == [[0.9, 0, 0], [0.7, 3, 0]]
    assert find(peaks, radius_um=0.5) == [[0.9, 0, 0], [0.8, 1, 0], [0.7, 3, 0]]


def test_a_hidden_peak_hides_nothing():
    assert find([[0.9, 0.8, 0.7]]) == [[0.9, 0, 0], [0.7, 2, 0]]


def test_the_radius_is_in_um():
    assert len(find([[0.9, 0.0, 0.0, 0.7]], mpp=10.0, cell_um=10.0, radius_um=29.0)) == 2
    assert len(find([[0.9, 0.0, 0.0, 0.7]], mpp=10.0, cell_um=10.0, radius_um=30.0)) == 1


def test_the_point_is_the_peaks_own_pixel_and_not_its_cells_middle():
    probabilities = np.zeros((8, 8))
    probabilities[5, 6] = 0.9
    assert find(probabilities, cell_um=4.0, radius_um=9.0) == [[0.9, 6, 5]]


def test_level_0_coordinates_are_those_of_the_pixels_middle():
    assert find([[0.0, 0.0], [0.0, 0.9]], ratio=4.115) == [[0.9, 6, 6]]  # int(1.5 * 4.115)


def test_low_scores_are_no_detections():
    assert find([[0.9, 0.0, 0.05, 0.0, 0.1]]) == [[0.9, 0, 0], [0.1, 4, 0]]
    assert find_detections(np.zeros((5, 5)), 1.0, 1.0).shape == (0, 3)


def test_equal_scores_are_ordered_by_row_then_column():
    tied = [[0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5]]
    assert find(tied) == [[0.5, 3, 0], [0.5, 0, 2], [0.5, 3, 3]]
    assert find(np.full((2, 2), 0.5), cell_um=2.0) == [[0.5, 0, 0]]
    assert find(np.full((3, 3), 0.5), radius_um=1.5) == [[0.5, 0, 0], [0.5, 2, 0], [0.5, 0, 2], [0.5, 2, 2]]


def test_components_give_one_detection_each_and_join_at_corners():
    parts = [[0.6, 0.0, 0.0, 0.0], [0.0, 0.9, 0.0, 0.5], [0.0, 0.0, 0.0, 0.5]]
    assert find(parts, method="components") == [[0.9, 1, 1], [0.5, 3, 1]]


def test_margins_serve_as_well_as_probabilities():
    margins = [[30.0, 0.0, 31.0, -5.0]]
    assert find(margins, threshold=-2.0, radius_um=1.9) == [[31.0, 2, 0], [30.0, 0, 0]]


def test_the_map_is_read_a_band_at_a_time(monkeypatch):
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (1, 2000))
    rng = np.random.default_rng(0)
    array = rng.random((157, 83))
    lazy = LazyMap(array)
    found = find_detections(lazy, 2.0, 1.0, radius_um=20.0, cell_um=5.0)
    assert lazy.largest <= 2000
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (1, 10**9))
    assert (found == find_detections(array, 2.0, 1.0, radius_um=20.0, cell_um=5.0)).all()


def test_cells_hold_the_first_of_their_largest_pixels():
    array = np.array([[0.1, 0.7, 0.2], [0.7, 0.0, 0.9], [0.3, 0.3, 0.4]], np.float16)
    score, row, column = reduce_to_cells(array, 2)
    np.testing.assert_allclose(score, [[0.7, 0.9], [0.3, 0.4]], rtol=1e-3)
    assert (row.tolist(), column.tolist()) == ([[0, 1], [2, 2]], [[1, 2], [0, 2]])


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_the_greedy_loop_over_all_pixels(seed):
    rng = np.random.default_rng(seed)
    array = rng.random((23, 31)).round(1)
    left, expected = array.copy(), []
    while left.max() >= 0.3:
        y, x = np.unravel_index(left.argmax(), left.shape)
        expected.append([left[y, x], x, y])
        rows, columns = np.indices(left.shape)
        left[np.hypot(rows - y, columns - x) <= 4.3] = -1
    assert find(array, threshold=0.3, radius_um=4.3) == expected


def test_bad_maps_and_methods_are_refused():
    with pytest.raises(ValueError, match="NaN in rows 0 to 2"):
        find([[0.5, 0.1], [np.nan, 0.1]])
    with pytest.raises(ValueError, match="method must be"):
        find([[0.5]], method="peaks")
