"""FROC as CAMELYON16 computes it: lesion sensitivity against false positives per slide."""

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_hf.evaluation.froc.curve import Convention, FrocResult, SlideFindings, froc_curve
from wsi_hf.evaluation.froc.detection_files import check_detections
from wsi_hf.evaluation.froc.lesions import ITC_UM, LEVEL, MPP_L0, Lesions, find_lesions
from wsi_hf.evaluation.froc.masks import check_mask_size, tumour_pixels


def froc(
    masks: Mapping[str, ArrayLike | None],
    detections: Mapping[str, ArrayLike],
    convention: Convention = "challenge",
    *,
    mpp: float | Mapping[str, float] = MPP_L0,
    level: int = LEVEL,
    downsample: float | Mapping[str, float] | None = None,
    tumour_value: int | None = None,
    dimensions_l0: Mapping[str, tuple[int, int]] | None = None,
    include_itc: bool = False,
) -> FrocResult:
    """Judge detections against tumour masks by the rules of CAMELYON16.

    The defaults are the challenge's constants: masks at level 5 of a 0.243 um/px scan, for every slide. Masks of other
    scanners keep the same rules with `mpp` and `downsample` per slide: `mpp * downsample` is the side of a mask pixel.

    `convention="challenge"` interpolates the curve, floors coordinates and drops the smallest score as a threshold, so
    that a single perfect detection scores 0: true to the original. `convention="release"` is the organisers' later
    script: it reads the curve as steps, rounds coordinates and drops only the score of missed lesions; pass each
    slide's own mpp.

    A missed lesion has score 0. Where scores may be negative (logit margins) it ranks below every detection instead.

    Args:
        masks: tumour masks, uint8 or bool, shape (H, W); None or empty for a slide without lesions. Slides without a
            detection list are left out, with a warning.
        detections: score, x_l0, y_l0 of each slide's detections, shape (n, 3).
        convention: "challenge" or "release".
        mpp: um per level-0 pixel.
        level: level of the masks; sets `downsample` to 2**level.
        downsample: level-0 pixels per mask pixel, where masks are not at a level.
        tumour_value: 1, 2 or 255; see `tumour_pixels`.
        dimensions_l0: (width, height) of the slides, to check that masks fit them.
        include_itc: count isolated tumour cells as lesions. The challenge does not; the release has the option. For
            slides too small to hold a focus of 200 um.
    """
    if convention not in ("challenge", "release"):
        raise ValueError(f'convention must be "challenge" or "release", not {convention!r}')
    _check_names(masks, detections)
    slides: dict[str, SlideFindings] = {}
    for slide_id, listed in detections.items():
        found = check_detections(listed, slide_id)
        slide_mpp = _of_slide(mpp, slide_id, "mpp")
        slide_downsample = float(2**level) if downsample is None else _of_slide(downsample, slide_id, "downsample")
        mask = masks[slide_id]
        if mask is None or np.size(mask) == 0:
            slides[slide_id] = SlideFindings(False, found[:, 0], {})
            continue
        tumour = tumour_pixels(mask, slide_id, tumour_value)
        check_mask_size(tumour.shape, slide_id, slide_mpp * slide_downsample, slide_downsample, dimensions_l0)
        lesions = find_lesions(tumour, slide_mpp * slide_downsample, 0.0 if include_itc else ITC_UM)
        slides[slide_id] = _judge(found, lesions, slide_downsample, convention)
    return froc_curve(slides, convention, include_itc)


def _judge(
    detections: NDArray[np.float64], lesions: Lesions, downsample: float, convention: Convention
) -> SlideFindings:
    """Sort the detections of a malignant slide, shape (n, 3), into hits, free ones and false positives."""
    xy_mask = np.trunc(detections[:, 1:]) / downsample
    xy_mask = np.floor(xy_mask) if convention == "challenge" else np.rint(xy_mask)
    columns, rows = xy_mask.astype(np.int64).T
    hit_label = lesions.at(rows, columns)
    best = np.full(lesions.n_regions + 1, -np.inf)
    np.maximum.at(best, hit_label, detections[:, 0])
    best_score = {label: float(best[label]) if np.isfinite(best[label]) else None for label in lesions.lesion_labels}
    return SlideFindings(True, detections[hit_label == 0, 0], best_score, lesions.itc_labels)


def _check_names(masks: Mapping[str, object], detections: Mapping[str, object]) -> None:
    if not detections:
        raise ValueError("no slide has a detection list; pass an empty array for a slide where nothing was found")
    unknown = sorted(set(detections) - set(masks))
    if unknown:
        raise ValueError(
            f"detections name slides without a mask entry: {unknown[:5]}; pass None as a benign slide's mask"
        )
    left_out = sorted(set(masks) - set(detections))
    if left_out:
        warnings.warn(
            f"{len(left_out)} slides have no detection list and are left out, their lesions too: {left_out[:5]}",
            stacklevel=3,
        )


def _of_slide(value: float | Mapping[str, float], slide_id: str, name: str) -> float:
    if isinstance(value, Mapping):
        if slide_id not in value:
            raise ValueError(f"{slide_id}: {name} is given per slide but lacks this one")
        value = value[slide_id]
    if not value > 0:
        raise ValueError(f"{slide_id}: {name} must be positive, not {value}")
    return float(value)
