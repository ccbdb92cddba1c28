"""Slides under their probability maps and the annotated outlines, as in the paper's Figure 3."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray
from skimage import measure

from wsi_hf.evaluation.blocks import MapLike
from wsi_hf.evaluation.panels import OverlayPanel, reduce_map
from wsi_hf.reports.figures import INK, STYLE, save_figure

HEAT = colormaps["YlOrRd"]
OUTLINE = "#0b4f8a"


def plot_overlay(
    image: NDArray[np.uint8],
    probabilities: MapLike,
    truth: ArrayLike | shapely.Geometry | None,
    path: str | Path,
    title: str = "",
    dimensions_l0: tuple[int, int] | None = None,
    mpp: float | None = None,
) -> None:
    """Draw one slide, and beside it the same under its probability map; arguments as in `OverlayPanel`."""
    plot_gallery([OverlayPanel(image, probabilities, truth, title, dimensions_l0, mpp)], path)


def plot_gallery(panels: Sequence[OverlayPanel], path: str | Path, slides_per_row: int = 2) -> None:
    """Draw several slides, each as a pair: the slide, and the slide in grey under its probability map.

    Args:
        panels: the slides.
        path: the picture; its suffix (.png, .svg) gives the format.
        slides_per_row: pairs side by side.
    """
    across = min(slides_per_row, len(panels))
    rows = [panels[start : start + across] for start in range(0, len(panels), across)]
    heights = [_row_height(row) for row in rows]
    with rc_context({**STYLE, "axes.grid": False, "axes.titlepad": 6}):
        figure = Figure(figsize=(5.6 * across + 0.8, sum(heights) + 0.3), layout="constrained")
        axes = figure.subplots(len(rows), 2 * across, squeeze=False, height_ratios=heights)
        for cell in axes.flat:
            cell.set_axis_off()
            cell.set_anchor("NW")
        for i, panel in enumerate(panels):
            left, right = axes[i // across, 2 * (i % across)], axes[i // across, 2 * (i % across) + 1]
            left.imshow(panel.image)
            left.set_title(panel.title)
            _draw_heat(right, panel)
            for side in (left, right):
                _draw_outline(side, panel)
            _draw_scale_bar(left, panel)
        colours = ScalarMappable(Normalize(0, 1), HEAT)
        bar = figure.colorbar(
            colours, ax=axes, shrink=min(1.0, 2.6 / figure.get_figheight() + 0.2), pad=0.015, aspect=28
        )
        bar.set_label("P(malignant)")
        bar.outline.set_visible(False)
        save_figure(figure, path)


def heat_image(panel: OverlayPanel) -> NDArray[np.uint8]:
    """Give the slide in pale grey and over it the probabilities, the fainter the lower; uint8, shape of the image."""
    height, width = panel.image.shape[:2]
    grey = panel.image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    picture = np.repeat((255 - 0.7 * (255 - grey))[..., None], 3, axis=2)
    probabilities = reduce_map(panel.probabilities)
    rows = ((np.arange(height) + 0.5) * probabilities.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * probabilities.shape[1] / width).astype(int)
    heat = probabilities[np.ix_(rows, columns)]
    opacity = 0.9 * np.clip(heat / 0.3, 0, 1)[..., None]
    picture = picture * (1 - opacity) + 255 * HEAT(heat)[..., :3] * opacity
    return np.rint(picture).astype(np.uint8)


def _row_height(panels: Sequence[OverlayPanel]) -> float:
    """Height of a row in inches, for pictures 2.7 inches wide."""
    return float(np.clip(2.7 * max(panel.image.shape[0] / panel.image.shape[1] for panel in panels), 1.2, 6.0)) + 0.35


def _draw_heat(axes: Axes, panel: OverlayPanel) -> None:
    axes.imshow(heat_image(panel))


def _draw_outline(axes: Axes, panel: OverlayPanel) -> None:
    rings = outline_rings(panel)
    axes.add_collection(LineCollection(rings, colors="white", linewidths=2.0, alpha=0.8), autolim=False)
    axes.add_collection(LineCollection(rings, colors=OUTLINE, linewidths=1.0), autolim=False)


def outline_rings(panel: OverlayPanel) -> list[NDArray[np.float64]]:
    """Give the rings of a panel's annotated tumour as (n, 2) points (x, y) in pixels of the image."""
    if panel.truth is None:
        return []
    height, width = panel.image.shape[:2]
    if isinstance(panel.truth, shapely.Geometry):
        if panel.dimensions_l0 is None:
            raise ValueError(f"{panel.title}: polygons are drawn with dimensions_l0, the slide's (width, height)")
        scale = np.array([width, height]) / panel.dimensions_l0
        polygons = [part for part in shapely.get_parts(panel.truth) if part.geom_type == "Polygon"]
        rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]
        return [np.asarray(ring.coords)[:, :2] * scale - 0.5 for ring in rings]
    mask = np.asarray(panel.truth)
    scale = np.array([width / mask.shape[1], height / mask.shape[0]])
    contours = measure.find_contours(np.pad(mask.astype(np.float32), 1), 0.5)
    return [(contour[:, ::-1] - 0.5) * scale - 0.5 for contour in contours]


def _draw_scale_bar(axes: Axes, panel: OverlayPanel) -> None:
    """Mark a round length of about a fifth of the width in the lower left corner."""
    if panel.mpp is None:
        return
    height, width = panel.image.shape[:2]
    lengths = np.array([10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000])
    length = lengths[np.abs(np.log(lengths / (0.2 * width * panel.mpp))).argmin()]
    label = f"{length} µm" if length < 1000 else f"{length // 1000} mm"
    left, bottom, bar = 0.03 * width, 0.97 * height, length / panel.mpp
    axes.add_patch(Rectangle((left, bottom - 0.012 * height), bar, 0.012 * height, color=INK))
    axes.text(left + bar / 2, bottom - 0.025 * height, label, ha="center", va="bottom", fontsize=8)
