"""Tissue masks of one's own: an image that spans the slide, the masks of GrandQC, or GeoJSON."""

import logging
from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from wsi_hf.slides.annotations import rasterize
from wsi_hf.slides.damaged import reading
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.outlines.geojson import read_areas
from wsi_hf.slides.outlines.outline_files import JSON_SUFFIXES
from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

MASK_SUFFIXES = (".png", ".tif", ".tiff", *JSON_SUFFIXES)
NOT_TISSUE = frozenset({"background", "glass", "exclusion", "exclusions", "ignore", "ignore*", "artifact", "artefact"})
GRANDQC_ENDINGS = ("", "_MASK", "_mask")
OUTLINE_MPP = 8.0


def read_tissue(path: str | Path, slide: Slide) -> np.ndarray:
    """Read a slide's tissue mask.

    An image is tissue where it is not 0, whatever its size, if only it has the slide's shape. GrandQC's are known: its
    tissue masks (`NAME_MASK.png`) say 0 of tissue and 1 of background, its artefact masks 1 of clean tissue, 2 to 6 of
    artefacts and 7 of background. GeoJSON is tissue inside its outlines, but for classes such as background or ignore.

    Args:
        path: the file, or a folder of masks that are called after their slides.
        slide: the slide.

    Returns:
        bool, shape (H, W), which spans the slide.

    Raises:
        SlideError: there is no mask, or it cannot be this slide's.
    """
    path = mask_file(Path(path), slide)
    try:
        mask = _outlined(path, slide) if path.suffix.lower() in JSON_SUFFIXES else _painted(path)
    except (ValueError, OSError) as error:
        raise SlideError(f"{slide.slide_id}: its tissue mask cannot be used: {error}") from error
    (width, height), (rows, columns) = slide.dimensions_l0, mask.shape
    if abs(width * rows - height * columns) >= max(width, height):  # a cell of the mask
        raise SlideError(
            f"{slide.slide_id}: the tissue mask {path.name} has {columns} x {rows} pixels, which is not the shape of "
            f"{width} x {height}: is it another slide's, or of a part of the slide?"
        )
    return mask


def mask_file(path: Path, slide: Slide) -> Path:
    """The file itself, or that of a folder which is called after the slide or its file."""
    if not path.is_dir():
        return path
    stems = (slide.slide_id, slide.path.stem, slide.path.name)
    names = [f"{stem}{ending}{suffix}" for stem in stems for ending in GRANDQC_ENDINGS for suffix in MASK_SUFFIXES]
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise SlideError(f"{slide.slide_id}: no tissue mask in {path} (such as {stems[0]}.png or {stems[0]}.geojson)")
    return found


def _painted(path: Path) -> np.ndarray:
    with reading(path, "an image of a mask"), Image.open(path) as image:
        values = np.asarray(image)
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise ValueError(f"{path.name} is a picture in colours, not a mask; one value a pixel is needed ({path})")
    found = {int(value) for value in np.unique(values)} if np.issubdtype(values.dtype, np.integer) else set()
    if found and found <= set(range(1, 8)) and found & {1, 7}:
        logger.info("%s is taken for an artefact mask of GrandQC: 1 is clean tissue", path.name)
        return values == 1
    if path.stem.endswith("_MASK") and found <= {0, 1}:
        logger.info("%s is taken for a tissue mask of GrandQC: 0 is tissue", path.name)
        return values == 0
    return values != 0


def _outlined(path: Path, slide: Slide) -> np.ndarray:
    groups, origin_l0 = read_areas(path)
    origin = np.asarray(slide.bounds_l0[:2] if origin_l0 is None else origin_l0, np.float64)
    areas = shapely.union_all([area for group in set(groups) - NOT_TISSUE for area in groups[group]])
    areas = areas.difference(shapely.union_all([area for group in NOT_TISSUE for area in groups.get(group, [])]))
    mpp = max(OUTLINE_MPP, slide.mpp)
    width, height = slide.size_px(mpp)
    return rasterize(shapely.transform(areas, lambda xy: xy + origin), (height, width), mpp / slide.mpp)
