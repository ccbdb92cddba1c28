import numpy as np
import pytest
from matplotlib.image import imread
from shapely import MultiPolygon, box

from wsi_hf.evaluation.froc.interval import froc_interval
from wsi_hf.evaluation.froc.scoring import froc
from wsi_hf.evaluation.panels import OverlayPanel, reduce_map
from wsi_hf.evaluation.roc import roc_auc
from wsi_hf.reports.figures import plot_froc, plot_roc, plot_training
from wsi_hf.reports.overlays import outline_rings, plot_gallery, plot_overlay
from wsi_hf.reports.placement import TumourShare

HISTORY = [{"step": i, "loss": 1 / (i + 1)} for i in range(50)] + [{"step": 25, "eval_slide_auc": 0.8}]


def slide(height=60, width=40):
    return np.full((height, width, 3), (240, 200, 220), np.uint8)


def is_picture(path):
    """A picture of some size that is not all one colour."""
    pixels = imread(path)
    return min(pixels.shape[:2]) > 200 and pixels.std() > 0.01


@pytest.mark.parametrize("n_resamples", [0, 50])
def test_curves_are_drawn_with_and_without_a_band(tmp_path, n_resamples):
    roc = roc_auc([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9], n_resamples)
    plot_roc(roc, tmp_path / "roc.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:55] = 1
    found = froc({"a": mask, "b": None}, {"a": [(0.9, 600, 500), (0.3, 0, 0)], "b": [(0.5, 0, 0)]})
    plot_froc(found, tmp_path / "froc.png", froc_interval(found, n_resamples) if n_resamples else None)
    assert is_picture(tmp_path / "roc.png")
    assert is_picture(tmp_path / "froc.png")


def test_undefined_curves_are_drawn_empty(tmp_path):
    with pytest.warns(UserWarning, match="same label"):
        plot_roc(roc_auc([0, 0], [0.1, 0.2]), tmp_path / "roc.png")
    with pytest.warns(UserWarning, match="no slide has a lesion"):
        plot_froc(froc({"a": None}, {"a": []}), tmp_path / "froc.png")
    assert is_picture(tmp_path / "roc.png")
    assert is_picture(tmp_path / "froc.png")


def test_the_suffix_gives_the_format_and_nothing_else_is_left_behind(tmp_path):
    plot_roc(roc_auc([0, 1], [0.1, 0.2], 0), tmp_path / "roc.svg")
    assert (tmp_path / "roc.svg").read_text().lstrip().startswith("<?xml")
    assert [path.name for path in tmp_path.iterdir()] == ["roc.svg"]


@pytest.mark.parametrize("share", [None, TumourShare(np.arange(3.0), np.array([0.1, 0.2, 0.4]), np.full(3, 16))])
@pytest.mark.parametrize("history", [HISTORY, HISTORY[:3]])
def test_training_is_drawn_from_what_was_logged(tmp_path, history, share):
    plot_training(history, tmp_path / "training.png", share)
    assert is_picture(tmp_path / "training.png")


def test_an_overlay_shows_the_outline_and_the_heat(tmp_path):
    probabilities = np.zeros((30, 20), np.float16)
    plot_overlay(slide(), probabilities, None, tmp_path / "plain.png")
    probabilities[5:15, 5:15] = 0.9
    plot_overlay(slide(), probabilities, None, tmp_path / "heat.png")
    plot_overlay(
        slide(), probabilities, probabilities > 0.5, tmp_path / "outline.png", "tumor_001, score 0.90", mpp=8.0
    )
    plain, heat, outline = (imread(tmp_path / f"{name}.png") for name in ("plain", "heat", "outline"))
    assert plain.shape == heat.shape
    assert (plain != heat).any()
    assert is_picture(tmp_path / "outline.png")
    assert outline.shape[1] == plain.shape[1]


def test_a_gallery_holds_slides_of_different_shapes(tmp_path):
    panels = [
        OverlayPanel(slide(h, w), np.zeros((h // 2, w // 2)), title=f"{h} x {w}")
        for h, w in ((60, 40), (30, 90), (50, 50))
    ]
    plot_gallery(panels, tmp_path / "gallery.png")
    assert is_picture(tmp_path / "gallery.png")


def test_masks_and_polygons_give_the_same_outline():
    mask = np.zeros((6, 4), bool)
    mask[2:4, 1:3] = True
    panel = {"image": slide(60, 40), "probabilities": np.zeros((6, 4))}
    (of_mask,) = outline_rings(OverlayPanel(**panel, truth=mask))
    polygons = MultiPolygon([box(100, 200, 300, 400)])
    (of_polygons,) = outline_rings(OverlayPanel(**panel, truth=polygons, dimensions_l0=(400, 600)))
    for points in (of_mask, of_polygons):
        assert points.min(axis=0).tolist() == pytest.approx([9.5, 19.5])
        assert points.max(axis=0).tolist() == pytest.approx([29.5, 39.5])


def test_polygons_need_the_slides_size():
    panel = OverlayPanel(slide(), np.zeros((6, 4)), MultiPolygon([box(0, 0, 1, 1)]), "tumor_001")
    with pytest.raises(ValueError, match="tumor_001: polygons are drawn with dimensions_l0"):
        outline_rings(panel)


def test_a_map_is_reduced_to_means_of_its_cells():
    reduced = reduce_map(np.array([[1, 1, 0], [1, 1, 0.5], [0, 0, 1]], np.float16), longest_side=2)
    assert reduced.tolist() == [[1.0, 0.25], [0.0, 1.0]]
