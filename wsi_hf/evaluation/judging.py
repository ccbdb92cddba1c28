"""Segment a slide, compare it with its label and outline; finished slides are known again by what they are made of."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import shapely
from shapely import MultiPolygon
from tqdm.auto import tqdm

from wsi_hf.cohorts.camelyon16 import open_slide
from wsi_hf.evaluation.blocks import MapLike, read_block, row_blocks
from wsi_hf.evaluation.froc.detections import find_detections
from wsi_hf.evaluation.froc.patches import PATCH_UM, cut_patches
from wsi_hf.evaluation.froc.polygon_mask import PolygonMask
from wsi_hf.evaluation.panels import reduce_map
from wsi_hf.evaluation.pixel_counts import count_pixels
from wsi_hf.evaluation.records import SlideRecord, load_record
from wsi_hf.evaluation.slide_score import robust_margin
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.reading import read_contained
from wsi_hf.inference.tiling import Tile
from wsi_hf.segmentation.calibration import Calibration, calibration_of
from wsi_hf.segmentation.lesions import Lesion, find_lesions
from wsi_hf.segmentation.outputs import describe_damages
from wsi_hf.segmentation.provenance import mask_fingerprint, model_fingerprint, slide_fingerprint
from wsi_hf.segmentation.segmentation import segment_slide, smallest_area
from wsi_hf.segmentation.slide_score import AREA_UM2, POOLED_UM2
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.outlines.outline_files import read_outline
from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

VERSION = 4
"""Of the records; others are not taken up."""
PICTURE_PX = 768


@dataclass(frozen=True)
class JudgingSettings:
    """How slides are judged.

    Attributes:
        detection_radius_um: no two detections lie nearer.
        lowest_margin: of a detection; -4.6 is a probability of 0.01.
        band_um: pixel figures are given a second time without the pixels nearer to an outline than this.
        patch_um: side of the patches, see `froc.patches`.
    """

    detection_radius_um: float = 187.0
    lowest_margin: float = -4.6
    band_um: float = 20.0
    patch_um: float = PATCH_UM


class Judge:
    """Judges slides with one network, one record a slide in `folder`.

    Args:
        network: the model.
        folder: made if need be.
        settings: see `JudgingSettings`.
        mpp: um per level-0 pixel of slides whose files do not say.
        reading: tile_size, batch_size and num_workers of `segment_slide`; they change no result.
    """

    def __init__(
        self,
        network: PixelNetwork,
        folder: Path,
        settings: JudgingSettings | None = None,
        mpp: float | None = None,
        **reading: int | None,
    ) -> None:
        self.network, self.folder, self.settings = network, folder, settings or JudgingSettings()
        self.mpp, self.reading = mpp, reading
        self.folder.mkdir(parents=True, exist_ok=True)
        self._calibration = calibration_of(network.config)
        self._model = {
            "fingerprint": model_fingerprint(network),
            "dtype": str(network.dtype),
            "calibration": self._calibration and self._calibration.to_config(),
        }

    def judge_all(self, rows: Sequence[Mapping[str, Any]], progress: bool = True) -> dict[str, str]:
        """Judge the rows of a cohort that are not judged yet; one bad slide is reported and the rest goes on.

        Returns:
            {slide_id: what went wrong}.
        """
        failed = {}
        for row in tqdm(rows, "Evaluating", unit="slide", disable=not progress):
            try:
                self.judge(row)
            except (SlideError, ValueError, FileNotFoundError, PermissionError) as error:
                failed[row["slide_id"]] = str(error)
                logger.error("%s is left out: %s", row["slide_id"], error)
        return failed

    def judge(self, row: Mapping[str, Any]) -> SlideRecord:
        """Take up the record of a slide, or segment and judge it."""
        slide, path = open_slide(row, self.mpp), self.folder / f"{row['slide_id']}.npz"
        key = self._key(row, slide)
        record = load_record(path, key)
        if record is None:
            record = self._compute(row, slide)
            record.save(path, key)
        return record

    def _key(self, row: Mapping[str, Any], slide: Slide) -> str:
        annotation = Path(row["annotation"]).read_bytes() if row["annotation"] else None
        made_of = {
            "version": VERSION,
            "slide": slide_fingerprint(slide),
            "mpp": slide.mpp,
            "label": row["label"],
            "exhaustive": row["exhaustive"],
            "annotation": annotation and hashlib.blake2b(annotation, digest_size=16).hexdigest(),
            "model": self._model,
            "settings": asdict(self.settings),
        }
        if mask := mask_fingerprint(row.get("tissue"), slide):
            made_of["tissue"] = mask
        return json.dumps(made_of, sort_keys=True)

    def _compute(self, row: Mapping[str, Any], slide: Slide) -> SlideRecord:
        outline = outline_of(row, slide.bounds_l0[:2])  # before the long part: it may be refused
        tissue = row.get("tissue") or "auto"
        segmented = segment_slide(self.network, slide, tissue=tissue, keep_margins=True, **self.reading)  # type: ignore[arg-type]
        assert segmented.margins is not None
        maps = JudgedMaps(
            segmented.margins, segmented.probabilities, self.network.mpp, self._calibration, segmented.lesions
        )
        not_analysed = describe_damages(segmented.damages, segmented.downsample)
        record = judge_maps(row, slide, outline, maps, self.settings, not_analysed)
        return replace(record, warnings=segmented.warnings)


@dataclass(frozen=True, eq=False)
class JudgedMaps:
    """A slide's margins l1 - l0 (-inf where not analysed) and P(malignant), both (H, W), and their um per pixel.

    calibration: of the model that made them. lesions: of the map at P = 0.5; found here where they are not given.
    """

    margins: MapLike
    probabilities: MapLike
    mpp: float
    calibration: Calibration | None = None
    lesions: list[Lesion] | None = None

    def found_lesions(self, downsample: float) -> list[Lesion]:
        if self.lesions is not None:
            return self.lesions
        blocks = [(rows.start, rows.stop) for rows, _ in row_blocks(self.probabilities.shape)]
        tiles = [Tile(0, top, self.probabilities.shape[1], stop - top, i) for i, (top, stop) in enumerate(blocks)]
        smallest = smallest_area(self.calibration, None) / self.mpp**2
        return find_lesions(self.probabilities, tiles, 0.5, smallest, downsample)


def judge_maps(
    row: Mapping[str, Any],
    slide: Slide,
    outline: MultiPolygon | None,
    maps: JudgedMaps,
    settings: JudgingSettings,
    not_analysed: list[dict[str, Any]] | None = None,
) -> SlideRecord:
    """Compare a slide's maps, whoever made them, with its label and outline."""
    ratio, picture_mpp = maps.mpp / slide.mpp, slide.mpp * max(1.0, max(slide.dimensions_l0) / PICTURE_PX)
    pixels, patches, calibration = None, None, maps.calibration
    scale = (calibration.temperature, calibration.shift) if calibration else (1.0, 0.0)
    margin = max(float(read_block(maps.margins, block).max()) for block in row_blocks(maps.margins.shape))
    pooled = {area: robust_margin(maps.margins, maps.mpp, area) if area else margin for area in POOLED_UM2}
    lesions = maps.found_lesions(ratio)
    if outline is not None and row["exhaustive"]:
        shape = maps.margins.shape
        truth = PolygonMask(outline, shape, ratio)
        ignore = PolygonMask(_band(outline, slide, settings), shape, ratio) if settings.band_um else None
        pixels = count_pixels(slide.slide_id, maps.margins, truth, ignore, margins=True, cut=scale[1])
        patches = cut_patches(maps.probabilities, truth, maps.mpp, settings.patch_um)
    return SlideRecord(
        slide_id=row["slide_id"],
        label=row["label"],
        margin=margin,
        robust_margin=pooled[AREA_UM2],
        mpp=slide.mpp,
        dimensions_l0=slide.dimensions_l0,
        exhaustive=row["exhaustive"],
        not_analysed=not_analysed or [],
        outline=outline,
        detections=find_detections(
            maps.margins, ratio, maps.mpp, settings.detection_radius_um, threshold=settings.lowest_margin
        ),
        pixels=pixels,
        image=read_contained(slide, (0, 0), slide.size_px(picture_mpp), picture_mpp, spot=16)[0],
        heat=reduce_map(maps.probabilities, PICTURE_PX),
        slide_probability=calibration.slide_probability(pooled) if calibration else None,
        scale=scale,
        lesions_um2=[lesion.pixels * maps.mpp**2 for lesion in lesions],
        truth_um2=_touched(outline, lesions, slide.mpp) if outline is not None and row["label"] else [],
        patches=patches,
    )


def _touched(outline: MultiPolygon, lesions: list[Lesion], mpp: float) -> list[tuple[float, bool]]:
    """(area in um2, whether a lesion of the map touches it) of each annotated lesion."""
    tree = shapely.STRtree([polygon for lesion in lesions for polygon in lesion.polygons])
    parts = shapely.get_parts(shapely.union_all(shapely.get_parts(outline)))
    return [(part.area * mpp**2, bool(len(tree.query(part, predicate="intersects")))) for part in parts]


def _band(outline: MultiPolygon, slide: Slide, settings: JudgingSettings) -> MultiPolygon:
    """What lies nearer to an outline than `band_um`."""
    return outline.boundary.buffer(settings.band_um / slide.mpp) if not outline.is_empty else MultiPolygon()


def outline_of(row: Mapping[str, Any], offset_l0: tuple[float, float] = (0, 0)) -> MultiPolygon | None:
    """The tumour of a cohort's slide; empty on a benign one, None where nobody has outlined it.

    Args:
        row: of a cohort.
        offset_l0: (x, y) of the slide's bounds, from which QuPath counts.
    """
    if not row["label"]:
        return MultiPolygon()
    if not row["annotation"]:
        return None
    outline = read_outline(row["annotation"], offset_l0)
    if outline.is_empty:
        raise ValueError(f"{Path(row['annotation']).name} holds no tumour, but {row['slide_id']} is malignant")
    return outline
