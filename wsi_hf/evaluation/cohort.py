"""Judge a model on a cohort: segment every slide, compare with labels and outlines, write the figures down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.special import expit
from shapely import MultiPolygon
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from wsi_hf.evaluation.detection_files import write_detections
from wsi_hf.evaluation.detections import find_detections
from wsi_hf.evaluation.figures import plot_froc, plot_roc
from wsi_hf.evaluation.froc import froc
from wsi_hf.evaluation.froc_bootstrap import froc_interval
from wsi_hf.evaluation.froc_curve import FrocResult
from wsi_hf.evaluation.margins import MarginMap
from wsi_hf.evaluation.masks import mask_downsample, mask_from_polygons
from wsi_hf.evaluation.overlays import OverlayPanel, plot_gallery, reduce_map
from wsi_hf.evaluation.pixel import PixelScores
from wsi_hf.evaluation.polygon_mask import PolygonMask
from wsi_hf.evaluation.report import metrics, write_metrics
from wsi_hf.evaluation.roc import roc_auc
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.slides.annotations import read_asap
from wsi_hf.slides.slide import Slide

PICTURED = 8  # slides in the gallery
LOWEST_MARGIN = -4.6  # of a detection: a probability of 0.01


@dataclass(frozen=True)
class JudgedSlide:
    """One slide, compared with its label and outline."""

    label: int
    margin: float  # largest l1 - l0
    detections: NDArray[np.float64]  # (n, 3) score, x_l0, y_l0
    mask: NDArray[np.uint8] | None  # tumour at the challenge's pixel size; None for a benign slide
    mpp: float  # of level 0
    panel: OverlayPanel


def evaluate_cohort(
    model: PreTrainedModel,
    slides: Dataset,
    out: str | Path,
    image_processor: WsiImageProcessor | None = None,
    detection_radius_um: float = 187.0,
    include_itc: bool = False,
) -> dict[str, Any]:
    """Segment the slides of a cohort, compute slide AUC, FROC, pixel average precision and Dice, and draw them.

    Writes `metrics.json`, `detections/<slide_id>.csv`, `roc.png`, `froc.png` and `overlays.png`.

    Args:
        model: two classes, benign and malignant.
        slides: rows of a cohort (`load_cohort`); malignant slides without an annotation count for the AUC alone.
        out: folder, made if need be.
        image_processor: the model's.
        detection_radius_um: no two detections lie nearer.
        include_itc: count isolated tumour cells as lesions, against the challenge's rule: for slides so small that most
            of their lesions are shorter than its 275 um.

    Returns:
        What metrics.json holds: for each figure its value, n and 95 % interval.
    """
    out = Path(out)
    (out / "detections").mkdir(parents=True, exist_ok=True)
    network, pixels = PixelNetwork(model, image_processor), PixelScores()
    judged: dict[str, JudgedSlide] = {}
    for row in tqdm(slides, desc="Evaluating", unit="slide"):
        judged[row["slide_id"]] = judge_slide(network, row, pixels, detection_radius_um)
        scores, places = np.split(judged[row["slide_id"]].detections, [1], axis=1)
        listed = np.hstack([expit(scores), places])  # float64: distinct up to a margin of 36
        write_detections(out / "detections" / f"{row['slide_id']}.csv", listed)
    located = {name: slide for name, slide in judged.items() if not slide.label or slide.mask is not None}
    roc = roc_auc([slide.label for slide in judged.values()], [slide.margin for slide in judged.values()])
    curve = _froc(located, include_itc)
    interval = froc_interval(curve)
    figures = metrics(roc, curve, interval, pixels.result())
    write_metrics(figures, out / "metrics.json")
    plot_roc(roc, out / "roc.png")
    plot_froc(curve, out / "froc.png", interval)
    plot_gallery([slide.panel for slide in _worth_seeing(judged)], out / "overlays.png")
    return figures


def judge_slide(
    network: PixelNetwork, row: Mapping[str, Any], pixels: PixelScores, detection_radius_um: float
) -> JudgedSlide:
    """Segment one slide; its pixels are added to `pixels` if their truth is known."""
    slide, label = Slide(row["path"], mpp=row["mpp"]), row["label"]
    margins = MarginMap(network, slide)
    probabilities = margins.probabilities
    outline = read_asap(row["annotation"]) if label and row["annotation"] else MultiPolygon()
    known = not label or row["annotation"] is not None
    ratio = network.mpp / slide.mpp
    if known:
        pixels.add(slide.slide_id, probabilities, PolygonMask(outline, margins.shape, ratio))
    mask = mask_from_polygons(outline, slide.dimensions_l0, mask_downsample(slide.mpp)) if label and known else None
    found = find_detections(margins, ratio, network.mpp, detection_radius_um, threshold=LOWEST_MARGIN)
    return JudgedSlide(label, margins.largest, found, mask, slide.mpp, _panel(slide, margins, outline, label))


def _froc(located: dict[str, JudgedSlide], include_itc: bool) -> FrocResult:
    return froc(
        {name: slide.mask for name, slide in located.items()},
        {name: slide.detections for name, slide in located.items()},
        mpp={name: slide.mpp for name, slide in located.items()},
        downsample={name: mask_downsample(slide.mpp) for name, slide in located.items()},
        tumour_value=1,
        include_itc=include_itc,
    )


def _panel(slide: Slide, margins: MarginMap, outline: MultiPolygon, label: int) -> OverlayPanel:
    image = slide.thumbnail(768)
    title = f"{slide.slide_id}: {('benign', 'malignant')[label]}, score {expit(margins.largest):.3f}"
    mpp = slide.mpp * slide.dimensions_l0[0] / image.shape[1]
    return OverlayPanel(image, reduce_map(margins.probabilities, 768), outline, title, slide.dimensions_l0, mpp)


def _worth_seeing(judged: dict[str, JudgedSlide]) -> list[JudgedSlide]:
    """Three malignant slides for each benign one, evenly over the order of their scores."""
    chosen = []
    for label, count in ((1, PICTURED * 3 // 4), (0, PICTURED // 4)):
        ranked = sorted((slide for slide in judged.values() if slide.label == label), key=lambda slide: -slide.margin)
        if ranked:
            picks = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).astype(int))
            chosen += [ranked[i] for i in picks]
    return chosen
