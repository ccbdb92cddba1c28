"""One slide of the viewer: where its pixels, map, lesions and outlines come from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openslide
import shapely

from wsi_hf.slides.handles import SlideError, pool
from wsi_hf.slides.outlines.outline_files import read_outline
from wsi_hf.slides.slide import Slide

Feature = dict[str, Any]
"""A GeoJSON feature."""


@dataclass(frozen=True, eq=False)
class ShownSlide:
    """A slide with its results; what takes time to read is read when it is asked for.

    Attributes:
        slide_id: its name.
        path: its file; None where nobody knows it.
        size_l0: (width, height) that the results are of.
        mpp: um per level-0 pixel.
        verdict: the model's word.
        score: by which slides are sorted, 0 to 1.
        raw_score: the largest P(malignant), where the score is something else.
        truth_label: benign or malignant, where it is known.
        annotation: ASAP outline of its tumour.
        review_path: where accepted and rejected lesions are saved.
    """

    slide_id: str
    path: Path | None
    size_l0: tuple[int, int]
    mpp: float
    verdict: str
    score: float
    raw_score: float | None
    truth_label: str | None
    annotation: Path | None
    review_path: Path

    def pixels(self) -> openslide.AbstractSlide:
        """The open slide.

        Raises:
            SlideError: it is not there, cannot be opened, or is another one than the results are of.
        """
        if self.path is None:
            raise SlideError(f"{self.slide_id}: the results do not say where the slide is; pass its folder as --slides")
        slide = Slide(self.path, self.mpp)
        if slide.dimensions_l0 != self.size_l0:
            raise SlideError(
                f"{self.path} is not the slide of these results: {slide.dimensions_l0} is not {self.size_l0}"
            )
        return pool().get(slide._file)  # deep zoom wants OpenSlide's own object

    def probability_map(self) -> tuple[openslide.AbstractSlide, float]:
        """P(malignant) as a grey image, and how many level-0 pixels one of its pixels spans."""
        raise NotImplementedError

    def lesions(self) -> dict[str, Any]:
        """The model's lesions, the most probable first, as a GeoJSON collection; what else it says is kept."""
        raise NotImplementedError

    def truth(self) -> shapely.Geometry | None:
        """The annotated tumour in level-0 pixels; None where there is no annotation."""
        return read_outline(self.annotation) if self.annotation else None


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
