"""What judging one slide leaves behind: a small file each, from which all figures and pictures can be made again."""

import io
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit
from shapely import MultiPolygon

from wsi_hf.evaluation.froc.detection_files import check_detections
from wsi_hf.evaluation.froc.patches import Patches
from wsi_hf.evaluation.panels import OverlayPanel
from wsi_hf.evaluation.pixel_counts import PixelCounts
from wsi_hf.slides.damaged import DamagedFileError, reading
from wsi_hf.slides.replacing import replacing

logger = logging.getLogger(__name__)

JPEG_QUALITY = 90


@dataclass(frozen=True, eq=False)
class SlideRecord:
    """One slide, segmented and compared with its outline.

    Attributes:
        slide_id: its name.
        label: 0 benign, 1 malignant.
        margin: largest l1 - l0 of its pixels, by which slides are ranked.
        robust_margin: mean of its largest margins, see `robust_margin`.
        mpp: um per level-0 pixel.
        dimensions_l0: (width, height).
        exhaustive: all of its tumour is outlined.
        not_analysed: spots that could not be read.
        outline: its tumour, level-0 coordinates; empty on benign slides, None where it is not known.
        detections: margin, x_l0, y_l0, shape (n, 3).
        pixels: its pixels, counted; None where they cannot be judged.
        image: thumbnail, uint8, shape (H, W, 3).
        heat: P(malignant), shrunk for display, shape (h, w).
        slide_probability: P(slide is malignant) by the model's calibration; None where it has none.
        scale: (temperature, shift) of the pixels' probabilities.
        lesions_um2: areas of the lesions that are outlined on the map.
        truth_um2: (area, whether an outlined lesion touches it) of each annotated lesion.
        warnings: what to know before believing it.
        patches: its patches, each with score and truth; None where they cannot be judged.
    """

    slide_id: str
    label: int
    margin: float
    robust_margin: float
    mpp: float
    dimensions_l0: tuple[int, int]
    exhaustive: bool
    not_analysed: list[dict[str, Any]]
    outline: MultiPolygon | None
    detections: NDArray[np.float64]
    pixels: PixelCounts | None
    image: NDArray[np.uint8]
    heat: NDArray[np.float32]
    slide_probability: float | None = None
    scale: tuple[float, float] = (1.0, 0.0)
    lesions_um2: list[float] = field(default_factory=list)
    truth_um2: list[tuple[float, bool]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    patches: Patches | None = None

    @property
    def located(self) -> bool:
        """Whether it is known where all its tumour is: what FROC and pixel figures need."""
        return self.outline is not None and self.exhaustive

    @property
    def score(self) -> float:
        """P(slide is malignant), 0.5 being the operating point; without a calibration, the raw score."""
        return self.raw_score if self.slide_probability is None else self.slide_probability

    @property
    def raw_score(self) -> float:
        """The paper's: the network's largest P(malignant); float64, distinct up to a margin of 36."""
        return float(expit(self.margin))

    @property
    def verdict(self) -> str:
        """The slide's label and what the model calls it, with its probability."""
        truth, called = ("benign", "malignant")[self.label], ("benign", "malignant")[self.score >= 0.5]
        return f"{truth}, called {called} ({self.score:.2f})"

    def pixel_probability(self, margins: NDArray[np.floating]) -> NDArray[np.floating]:
        """P(malignant) of pixels as the maps show it."""
        temperature, shift = self.scale
        return expit((margins - shift) / temperature)

    def panel(self) -> OverlayPanel:
        """Give the slide as a picture's panel."""
        title = f"{self.slide_id}: {self.verdict}"
        mpp = self.mpp * self.dimensions_l0[0] / self.image.shape[1]
        return OverlayPanel(self.image, self.heat, self.outline, title, self.dimensions_l0, mpp)

    def save(self, path: Path, key: str) -> None:
        """Write the record under a temporary name and rename it.

        Args:
            path: ends in .npz.
            key: what it was made of; `load_record` gives the record back for the same key alone.
        """
        facts = {name: getattr(self, name) for name in FACTS}
        arrays: dict[str, Any] = {"heat": self.heat.astype(np.float16), "detections": self.detections}
        arrays |= {"image": _jpeg(self.image), "key": np.array(key), "facts": np.array(json.dumps(facts))}
        if self.outline is not None:
            arrays["outline"] = np.frombuffer(shapely.to_wkb(self.outline), np.uint8)
        if self.pixels is not None:
            arrays |= {name: getattr(self.pixels, name) for name in COUNTS}
        if self.patches is not None:
            arrays |= {f"patch_{name}": getattr(self.patches, name) for name in PATCHES}
        with replacing(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, **arrays)


FACTS = (
    *("slide_id", "label", "margin", "robust_margin", "mpp", "dimensions_l0", "exhaustive", "not_analysed"),
    *("slide_probability", "scale", "lesions_um2", "truth_um2", "warnings"),
)
COUNTS = ("place", "count", "confusion")
PATCHES = ("side_um", "score", "share")


def load_record(path: Path, key: str | None = None) -> SlideRecord | None:
    """Read a record; None where there is none, or where it was made of something else than `key` or is damaged.

    Raises:
        DamagedFileError: it is damaged, and no `key` says that it could be made again.
    """
    if not path.exists():
        return None
    try:
        with reading(path, "a record of a judged slide", "remove it and evaluate again"), np.load(path) as stored:
            return None if key is not None and str(stored["key"]) != key else _record(stored)
    except DamagedFileError as error:
        if key is None:
            raise
        logger.warning("the slide is judged again: %s", error)
        return None


def _record(stored: Any) -> SlideRecord:
    facts = json.loads(str(stored["facts"]))
    record = SlideRecord(
        **facts | {"dimensions_l0": tuple(facts["dimensions_l0"])},
        outline=shapely.from_wkb(stored["outline"].tobytes()) if "outline" in stored else None,
        detections=check_detections(stored["detections"], facts["slide_id"]),
        pixels=PixelCounts(*(stored[name] for name in COUNTS)) if "place" in stored else None,
        image=np.asarray(Image.open(io.BytesIO(stored["image"].tobytes()))),
        heat=stored["heat"].astype(np.float32),
        patches=_patches(stored) if "patch_score" in stored else None,
    )
    numbers = (record.margin, record.robust_margin, record.mpp, *record.dimensions_l0)
    if record.label not in (0, 1) or not all(isinstance(number, int | float) for number in numbers) or record.mpp <= 0:
        raise ValueError("its facts are of another kind")
    if record.image.ndim != 3 or record.heat.ndim != 2 or not isinstance(record.outline, MultiPolygon | None):
        raise ValueError("its picture, map or outline is of another kind")
    return record


def _patches(stored: Any) -> Patches:
    side_um, score, share = (stored[f"patch_{name}"] for name in PATCHES)
    if score.dtype.kind != "f" or share.dtype.kind != "f" or score.ndim != 1 or score.shape != share.shape:
        raise ValueError("its patches are of another kind")
    return Patches(float(side_um), score, share)


def _jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return np.frombuffer(buffer.getvalue(), np.uint8)
