"""Slides on the command line: files, folders of DICOM files, and folders that hold slides."""

from collections.abc import Iterable
from pathlib import Path

import click

slides_argument = click.argument("slides", nargs=-1, required=True, type=Path, metavar="SLIDE...")


def expanded(paths: Iterable[Path]) -> list[Path]:
    """Slides, with the slides of folders in their place."""
    from wsi_hf.segmentation.pipeline import is_folder_of_slides, slides_in

    nested = (slides_in(path) if is_folder_of_slides(path) else [path] for path in paths)
    return [slide for slides in nested for slide in slides]
