"""Slides on the command line: files, folders of DICOM files, folders that hold slides, and splits of a cohort."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from wsi_hf.cohorts.manifest import Cohort

slides_argument = click.argument("slides", nargs=-1, required=True, type=Path, metavar="SLIDE...")


def expanded(paths: Iterable[Path]) -> list[Path]:
    """Slides, with the slides of folders in their place."""
    from wsi_hf.segmentation.pipeline import is_folder_of_slides, slides_in

    nested = (slides_in(path) if is_folder_of_slides(path) else [path] for path in paths)
    return [slide for slides in nested for slide in slides]


def slides_of_split(cohort: "Cohort", asked: str | None, usual: str, name: Path) -> "Cohort":
    """The slides of the split that was asked for; else of the usual one, or of the only one that there is.

    Raises:
        ValueError: there is no such split, or several others.
    """
    splits = sorted(set(cohort["split"]))
    chosen = asked or (usual if usual in splits else splits[0] if len(splits) == 1 else None)
    if chosen not in splits:
        raise ValueError(
            f"{name} has no {asked or usual} slides; it has {', '.join(splits)}: say with --split which of them to "
            "take, and take none that the model was trained on"
        )
    return cohort.select([row for row, of in enumerate(cohort["split"]) if of == chosen])
