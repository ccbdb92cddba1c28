"""Which slides some folders of results hold."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsi_hf.reports.cohort import RECORDS
from wsi_hf.slides.files import slide_name, slides_in
from wsi_hf.viewer.evaluated import evaluated_slides
from wsi_hf.viewer.segmented import segmented_slides
from wsi_hf.viewer.shown_slide import ShownSlide


def find_shown_slides(
    folders: Iterable[Path], slides: Iterable[Path] = (), cohort: Iterable[Mapping[str, Any]] = ()
) -> list[ShownSlide]:
    """The slides of results, those of the highest score first.

    Args:
        folders: of `wsi-hf segment` or of an evaluation.
        slides: folders where slides lie that were moved since.
        cohort: rows of a cohort: what is known of the slides.

    Raises:
        ValueError: a folder holds no results.
    """
    rows = {row["slide_id"]: row for row in cohort}
    moved = {slide_name(path): path for folder in slides for path in slides_in(folder)}
    found: list[ShownSlide] = []
    for folder in folders:
        in_folder: list[ShownSlide] = [*segmented_slides(folder, rows), *_evaluated(folder, rows)]
        if not in_folder:
            raise ValueError(f"{folder} holds no results of wsi-hf segment, evaluate or train")
        found += in_folder
    found = [replace(slide, path=moved.get(slide.slide_id, slide.path)) for slide in found]
    return sorted(found, key=lambda slide: -slide.score)


def _evaluated(folder: Path, rows: Mapping[str, Mapping[str, Any]]) -> Iterable[ShownSlide]:
    return evaluated_slides(folder, rows) if (folder / RECORDS).is_dir() else ()
