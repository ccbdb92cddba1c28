"""Tumour masks for the evaluation, from ASAP XML, polygons or the released TIFFs, and what their values mean."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray
from shapely import MultiPolygon

from wsi_hf.evaluation.froc.lesions import LEVEL, MASK_UM, MPP_L0
from wsi_hf.slides.annotations import rasterize, read_asap
from wsi_hf.slides.damaged import reading

CODINGS = {1: (0, 1), 255: (0, 255), 2: (0, 1, 2)}
"""Tumour value of each documented mask and all values it may hold. CAMELYON16's released TIFFs code tumour as 2."""
CHALLENGE_MPP = (0.22, 0.25)
"""um per level-0 pixel of the challenge's scanners, and of what is as good as the same."""
GLASS_SIDE_UM = 80_000.0
"""No slide is longer (a glass is 25 x 75 mm): a larger mask is not at the level it is said to be."""


def tumour_pixels(mask: ArrayLike, slide_id: str, tumour_value: int | None = None) -> NDArray[np.bool_]:
    """Read the tumour out of a mask's values; values that no documented mask holds are refused.

    Args:
        mask: bool, or integers in one of the documented codings, shape (H, W).
        slide_id: for the error message.
        tumour_value: 1, 2 or 255; by default what the mask's values allow: 0/1, 0/255, or 0/1/2 with 2 = tumour.

    Returns:
        True where there is tumour, shape (H, W).
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"{slide_id}: a mask has shape (H, W), not {mask.shape}; pass a single channel")
    if mask.dtype == bool:
        return mask
    marked = mask[mask != 0]
    counts = {value: int(np.count_nonzero(marked == value)) for value in (1, 2, 255)}
    present = {value for value, count in counts.items() if count}
    if sum(counts.values()) < marked.size:
        unknown = np.setdiff1d(marked, list(counts))[:5].tolist()
        raise ValueError(
            f"{slide_id}: the mask holds unknown values {unknown}; tumour is coded 1, 2 or 255, all else 0"
        )
    if tumour_value is None:
        tumour_value = max(present, default=1)
    if tumour_value not in CODINGS:
        raise ValueError(f"{slide_id}: tumour_value must be one of {sorted(CODINGS)}, not {tumour_value}")
    if not present <= set(CODINGS[tumour_value]):
        raise ValueError(
            f"{slide_id}: the mask mixes the values {sorted(present)}; with tumour = {tumour_value} only "
            f"{list(CODINGS[tumour_value])} are known"
        )
    return mask == tumour_value


def mask_shape(dimensions_l0: tuple[int, int], downsample: float = 2**LEVEL) -> tuple[int, int]:
    """Shape (H, W) of a mask that covers a slide of `dimensions_l0` (width, height)."""
    width, height = dimensions_l0
    return int(np.ceil(height / downsample)), int(np.ceil(width / downsample))


def mask_downsample(mpp: float) -> float:
    """Level-0 pixels per mask pixel that give any scanner the challenge's mask pixel of 7.776 um."""
    return MASK_UM / mpp


def mask_scale(mpp: float) -> tuple[float, float]:
    """Choose (mpp, downsample) of the mask of a slide of `mpp` um per level-0 pixel, for `froc`.

    CAMELYON16's scanners, 0.226 to 0.243: level 5 and the challenge's one constant, 0.243, for both. Any other scanner:
    the same size of a mask pixel in um.
    """
    low, high = CHALLENGE_MPP
    return (MPP_L0, 2.0**LEVEL) if low <= mpp <= high else (mpp, mask_downsample(mpp))


def mask_from_polygons(
    polygons: MultiPolygon, dimensions_l0: tuple[int, int], downsample: float = 2**LEVEL
) -> NDArray[np.uint8]:
    """Rasterise tumour polygons (level-0 x, y) into a mask of 0 and 1 over the whole slide."""
    return rasterize(polygons, mask_shape(dimensions_l0, downsample), downsample).astype(np.uint8)


def mask_from_xml(path: str | Path, dimensions_l0: tuple[int, int], downsample: float = 2**LEVEL) -> NDArray[np.uint8]:
    """Rasterise an ASAP XML annotation into a mask of 0 and 1 over the whole slide; cut-outs are 0."""
    return mask_from_polygons(read_asap(path), dimensions_l0, downsample)


def mask_from_tiff(path: str | Path, level: int = LEVEL, tumour_value: int = 2) -> NDArray[np.uint8]:
    """Read one level of a released mask TIFF as a mask of 0 and 1.

    Args:
        path: a pyramidal TIFF with one channel.
        level: its level with downsample 2**level is read, whichever place it has in the file.
        tumour_value: 2 in CAMELYON16's release, 1 or 255 elsewhere.
    """
    slide_id = Path(path).name
    with reading(path, "a pyramidal TIFF of a mask"), tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        found = {round(np.log2(levels[0].shape[1] / page.shape[1])): page for page in levels}
        mask = found[level].asarray() if level in found else None
    if mask is None:
        raise ValueError(f"{slide_id} has the levels {sorted(found)}, not level {level}; pass level= or another file")
    return tumour_pixels(mask, slide_id, tumour_value).astype(np.uint8)


def check_mask_size(
    shape: tuple[int, int],
    slide_id: str,
    pixel_um: float,
    downsample: float,
    dimensions_l0: Mapping[str, tuple[int, int]] | None = None,
) -> None:
    """Refuse a mask that does not fit its slide: made at another level, or for another slide.

    Args:
        shape: (H, W) of the mask.
        slide_id: the slide.
        pixel_um: side of a mask pixel that the caller assumes.
        downsample: level-0 pixels per mask pixel that the caller assumes.
        dimensions_l0: (width, height) of the slides; without it only impossible sizes are found.
    """
    if max(shape) * pixel_um > GLASS_SIDE_UM:
        raise ValueError(
            f"{slide_id}: a mask of {shape[1]} x {shape[0]} pixels of {pixel_um:.3f} um is longer than a glass slide; "
            "it is not at the level that mpp and downsample say"
        )
    if dimensions_l0 is None:
        return
    if slide_id not in dimensions_l0:
        raise ValueError(f"{slide_id}: dimensions_l0 lacks this slide")
    width, height = dimensions_l0[slide_id]
    fits = abs(shape[1] - width / downsample) <= 1 and abs(shape[0] - height / downsample) <= 1
    if not fits:
        raise ValueError(
            f"{slide_id}: the mask has {shape[1]} x {shape[0]} pixels, but {width} x {height} level-0 pixels at "
            f"downsample {downsample:g} make {width / downsample:.0f} x {height / downsample:.0f}; wrong level or slide"
        )
