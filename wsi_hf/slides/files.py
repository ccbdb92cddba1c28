"""Which files a slide is made of, what it is called, and which slides lie in a folder."""

import os
from functools import lru_cache
from pathlib import Path

from wsi_hf.slides.damaged import STUMBLES
from wsi_hf.slides.names import safe_name

SLIDE_SUFFIXES = {
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm"),
    *(".png", ".jpg", ".jpeg"),
}
DICOM = ".dcm"


def slide_name(path: str | Path) -> str:
    """What a slide is called: its file's name without the suffix, its folder's for DICOM, made safe (`safe_name`).

    Where a folder holds several DICOM slides, the UID of the series tells them apart.
    """
    path = Path(path)
    if os.path.isdir(path):  # False, and no error, where it must not be looked at
        return safe_name(path.absolute().name)
    if path.suffix.lower() != DICOM:
        return safe_name(path.stem)
    uid, folder = series_uid(path), path.absolute().parent
    return safe_name(folder.name if uid is None or len(series_in(folder)) < 2 else f"{folder.name}_{uid}")


def slide_files(path: Path) -> list[Path]:
    """All files of a slide: one, a folder's, a DICOM series, or MIRAX's with its folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and not is_hidden(file))
    if path.suffix.lower() == DICOM:
        return series_in(path.absolute().parent).get(series_uid(path) or "", [path])
    if path.suffix.lower() == ".mrxs" and (beside := path.with_suffix("")).is_dir():
        return [path, *slide_files(beside)]
    return [path]


def slides_in(folder: Path) -> list[Path]:
    """The slides of a folder, by name: files of a slide's suffix, one file a DICOM series, and folders of one series.

    Raises:
        ValueError: there are none.
    """
    found = [file for files in series_in(folder).values() for file in files[:1]]
    for path in folder.iterdir():
        if is_hidden(path):
            continue
        if is_folder_of_dicom(path):
            found += [path] if len(series_in(path)) == 1 else [files[0] for files in series_in(path).values()]
        elif path.is_file() and path.suffix.lower() in SLIDE_SUFFIXES - {DICOM}:
            found.append(path)
    if not found:
        raise ValueError(
            f"{folder} holds no slides (files of {', '.join(sorted(SLIDE_SUFFIXES))}, or folders of DICOM files)"
        )
    return sorted(found)


def is_hidden(path: Path) -> bool:
    """Whether a name says "not for people", as the ._NAME that macOS leaves beside every file of a foreign disk."""
    return path.name.startswith(".")


def is_folder_of_dicom(path: Path) -> bool:
    return path.is_dir() and bool(dicom_files(path))


def dicom_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == DICOM and not is_hidden(file))


def series_in(folder: Path) -> dict[str, list[Path]]:
    """{SeriesInstanceUID: its files} of the DICOM slides in a folder; a file that cannot be read stands alone."""
    series: dict[str, list[Path]] = {}
    for file in dicom_files(folder):
        series.setdefault(series_uid(file) or file.name, []).append(file)
    return dict(sorted(series.items(), key=lambda item: item[1]))


def series_uid(file: Path) -> str | None:
    """A DICOM file's SeriesInstanceUID; None where it cannot be read."""
    try:
        facts = file.stat()
    except OSError:
        return None
    return _series_uid(str(file.absolute()), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=65536)
def _series_uid(file: str, size: int, time_ns: int) -> str | None:
    import pydicom  # takes a quarter of a second

    try:
        return str(pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])[0x20000E].value)
    except (pydicom.errors.InvalidDicomError, *STUMBLES):
        return None
