"""Detections of one slide as a CSV file in the challenge's format: `score,x,y` a line, level-0 pixels, no header."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_hf.slides.damaged import reading
from wsi_hf.slides.files import is_hidden
from wsi_hf.slides.replacing import replacing


def check_detections(detections: ArrayLike, slide_id: str) -> NDArray[np.float64]:
    """Return detections as float64, shape (n, 3): score, x_l0, y_l0; refuse what no slide can hold.

    Args:
        detections: anything that makes such an array; an empty list is a slide without detections.
        slide_id: for the error message.
    """
    if detections is None:
        raise ValueError(f"{slide_id} has no detection list; pass an empty array if nothing was found")
    try:
        array = np.asarray(detections, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{slide_id}: detections must be numbers (score, x_l0, y_l0), no header or text") from None
    if array.size == 0:
        return np.zeros((0, 3))
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"{slide_id}: detections have shape (n, 3): score, x_l0, y_l0; not {array.shape}")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"{slide_id}: detection {row} holds NaN or infinity: {array[row].tolist()}")
    if (array[:, 1:] < 0).any():
        row = int(np.flatnonzero((array[:, 1:] < 0).any(axis=1))[0])
        raise ValueError(f"{slide_id}: detection {row} has negative coordinates: {array[row].tolist()}")
    return array


def read_detections(path: str | Path) -> NDArray[np.float64]:
    """Read one detection file, shape (n, 3): score, x_l0, y_l0. An empty file is a slide without detections.

    Semicolons and tabs part numbers too, and then a comma may stand for the decimal point.
    """
    path = Path(path)
    with reading(path, "text", "write it again as `score,x,y` lines"):
        text = path.read_bytes().decode("utf-8-sig")
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        separator = next((mark for mark in (";", "\t") if mark in line), ",")
        cells = [cell.strip() for cell in line.split(separator)]
        try:
            score, x_l0, y_l0 = (float(cell if separator == "," else cell.replace(",", ".")) for cell in cells)
        except ValueError:
            raise ValueError(
                f"{path.name}, line {number}: {line[:60]!r} is not `score,x,y`: three numbers, no header ({path})"
            ) from None
        rows.append((score, x_l0, y_l0))
    return check_detections(rows, path.stem)


def read_detection_folder(folder: str | Path) -> dict[str, NDArray[np.float64]]:
    """Read every `<slide_id>.csv` of a folder."""
    return {
        path.stem: read_detections(path)
        for path in sorted(Path(folder).iterdir())
        if path.suffix.lower() == ".csv" and not is_hidden(path)
    }


def write_detections(path: str | Path, detections: ArrayLike) -> None:
    """Write one detection file; scores keep all their digits, so that ties and ranks survive."""
    path = Path(path)
    lines = [f"{score!r},{int(x)},{int(y)}\n" for score, x, y in check_detections(detections, path.stem).tolist()]
    with replacing(path) as part:
        part.write_text("".join(lines), encoding="utf-8")
