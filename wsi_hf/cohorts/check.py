"""Look a cohort over before hours are spent on it: what is missing, broken, or known to be odd, a finding a line."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from wsi_hf.cohorts.camelyon16 import (
    NOT_EXHAUSTIVELY_ANNOTATED,
    NOT_IN_FROC,
    RELEASE,
    SCANNERS_MPP,
    SYNTHETIC,
    WITHDRAWN,
    find_slides,
    open_slide,
    read_reference,
)
from wsi_hf.cohorts.own_slides import TABLE_SUFFIXES, load_table
from wsi_hf.cohorts.rows import some
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.outlines.outline_files import read_outline
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue import find_tissue

CHECKSUMS = "*.[mM][dD]5"
READ_BYTES = 2**22
TAIL_PX = 256
"""Side of the patches that are read at a slide's far end: a copy that was cut short fails there."""
LOST_BY_TISSUE_MASKS = frozenset({"normal_027", "normal_045"})


@dataclass(frozen=True)
class Finding:
    """One line of a check. "missing" and "broken" stand in the way; "odd" is handled; "note" is for information."""

    kind: Literal["missing", "broken", "odd", "note"]
    what: str

    @property
    def bad(self) -> bool:
        return self.kind in ("missing", "broken")

    def __str__(self) -> str:
        return f"{self.kind:8}{self.what}"


def check_cohort(path: str | Path, mpp: float | None = None, progress: bool = False) -> Iterator[Finding]:
    """Check a cohort's files: a CAMELYON16 folder in either layout, or a CSV table of one's own.

    Quick findings come first; then every slide is opened, measured and read in parts, and every outline compared with
    its slide; at last files are compared with the checksums that the release has.

    Args:
        path: the folder or table.
        mpp: um per level-0 pixel of slides whose files do not say.
        progress: show progress bars.
    """
    path = Path(path)
    if path.suffix.lower() in TABLE_SUFFIXES:
        yield from _check_table(path, mpp, progress)
    elif path.is_dir():
        yield from _check_folder(path, mpp, progress)
    else:
        yield Finding("missing", f"there is no cohort {path}")


def _check_table(path: Path, mpp: float | None, progress: bool) -> Iterator[Finding]:
    try:
        rows = load_table(path)
    except (ValueError, OSError) as error:
        yield Finding("broken", str(error))
        return
    without = [row["slide_id"] for row in rows if row["label"] and not row["annotation"]]
    if without:
        yield Finding(
            "note", f"malignant slides without an annotation count for the AUC alone ({len(without)}): {some(without)}"
        )
    yield from _check_slides([dict(row) for row in rows], mpp, progress)


def _check_folder(folder: Path, mpp: float | None, progress: bool) -> Iterator[Finding]:
    try:
        slides = find_slides(folder)
    except ValueError as error:
        yield Finding("broken", str(error))
        return
    if not slides:
        yield Finding(
            "missing",
            f"no slides in {folder}: normal_001.tif and so on, in images/ or in training/ and testing/",
        )
        return
    try:
        labels = read_reference(folder)
    except ValueError as error:
        yield Finding("broken", str(error))
        labels = {}
    yield from _check_labels(labels, slides)
    if not (folder / SYNTHETIC).exists():
        yield from _check_against_release(set(slides))
    malignant = {name for name in slides if name.startswith("tumor") or labels.get(name)}
    yield from _check_annotations(slides, malignant)
    rows: list[dict[str, Any]] = [
        {"slide_id": name, "path": str(file), "label": int(name in malignant), "annotation": outline, "mpp": None}
        for name, (file, outline) in slides.items()
    ]
    yield from _check_slides(rows, mpp, progress)
    yield from _check_sums(folder, progress)


def _check_labels(labels: dict[str, int], slides: dict[str, Any]) -> Iterator[Finding]:
    tests = [name for name in slides if name.startswith("test_") and name not in WITHDRAWN]
    if tests and not labels:
        yield Finding("missing", "reference.csv, the test slides' labels: without it no test slide is evaluated")
    elif without := sorted(set(tests) - set(labels)):
        yield Finding("missing", f"reference.csv lacks the labels of {len(without)} test slides: {some(without)}")
    if absent := sorted(set(labels) - set(slides) - set(WITHDRAWN)):
        yield Finding("missing", f"reference.csv labels {len(absent)} slides that are not here: {some(absent)}")


def _check_against_release(names: set[str]) -> Iterator[Finding]:
    """Compare names with the release's, and tell what is known of those that are here."""
    for kind, released in RELEASE.items():
        absent = sorted(released - names)
        if len(absent) == len(released):
            yield Finding("note", f"no {kind} slides here ({len(released)} in the release)")
        elif absent:
            yield Finding("missing", f"{len(absent)} of the release's {len(released)} {kind} slides: {some(absent)}")
    for name in sorted(names & set(WITHDRAWN)):
        yield Finding("odd", f"{name} is {WITHDRAWN[name]}; it is left out")
    for name in sorted(names & NOT_IN_FROC):
        yield Finding("odd", f"{name} has tumour outside its outlines; it counts for the AUC, not for FROC and pixels")
    if partly := sorted(names & NOT_EXHAUSTIVELY_ANNOTATED):
        yield Finding(
            "odd",
            f"{len(partly)} training slides have tumour outside their outlines and count for the AUC alone: "
            + ", ".join(partly),
        )
    for name in sorted(names & LOST_BY_TISSUE_MASKS):
        yield Finding("odd", f"{name} is lost entirely by well-known tissue masks; see below whether by this one")


def _check_annotations(slides: dict[str, tuple[Path, Path | None]], malignant: set[str]) -> Iterator[Finding]:
    without = [name for name, (_, outline) in slides.items() if name in malignant and outline is None]
    if without:
        yield Finding("missing", f"annotations of {len(without)} malignant slides: {some(without)}")
    for name, (_, outline) in slides.items():
        if outline is not None and name not in malignant and name not in WITHDRAWN:
            yield Finding("odd", f"{name} is benign, but has an annotation ({outline.name}); it is not used")


def _check_slides(rows: list[dict[str, Any]], mpp: float | None, progress: bool) -> Iterator[Finding]:
    """Open and read every slide, compare its outline with it; tell the scanners at the end."""
    scanners: dict[str, int] = {}
    for row in tqdm(rows, "slides", unit="slide", disable=not progress):
        try:
            slide = open_slide(row, mpp)
            scanners[_scanner(slide.mpp)] = scanners.get(_scanner(slide.mpp), 0) + 1
            yield from _read_ends(slide, row["slide_id"])
        except (SlideError, OSError, ValueError) as error:
            yield Finding("broken", _named(row["slide_id"], error))
            continue
        if row["label"] and row["annotation"]:
            yield from _check_outline(Path(row["annotation"]), slide, row["slide_id"])
        slide.close()
    for name, count in sorted(scanners.items()):
        yield Finding("note", f"{count} slides scanned at {name}")


def _read_ends(slide: Slide, name: str) -> Iterator[Finding]:
    """Read all of a small level, for its tissue, and the far ends of the finest."""
    if not find_tissue(slide).any():
        yield Finding("odd", f"{name} has no tissue that the mask finds; the whole slide is taken instead")
    width, height = slide.dimensions_l0
    for x, y in ((width - TAIL_PX, height - TAIL_PX), (width // 2, height // 2), (0, 0)):
        slide.read_region_px((x, y), (TAIL_PX, TAIL_PX), slide.mpp)


def _check_outline(path: Path, slide: Slide, name: str) -> Iterator[Finding]:
    try:
        tumour = read_outline(path, slide.bounds_l0[:2])
    except (ValueError, OSError) as error:
        yield Finding("broken", _named(name, error))
        return
    width, height = slide.dimensions_l0
    if tumour.is_empty:
        yield Finding("broken", f"{name}: {path.name} holds no tumour, but the slide is malignant")
    elif (bounds := tumour.bounds)[2] > width or bounds[3] > height or min(bounds) < 0:
        reach = ", ".join(f"{value:.0f}" for value in bounds)
        yield Finding(
            "broken" if bounds[0] > width or bounds[1] > height else "odd",
            f"{name}: {path.name} spans ({reach}), beyond the slide's {width} x {height} pixels; another slide's?",
        )


def _scanner(mpp: float) -> str:
    known = next((name for name, (low, high) in SCANNERS_MPP.items() if low <= mpp <= high), None)
    return f"{mpp:.3f} um/px" + (f" ({known})" if known else "")


def _check_sums(folder: Path, progress: bool) -> Iterator[Finding]:
    """Compare files with the md5 sums in the folder; the release has them in checksums.md5."""
    sums = {name: digest for path in sorted(folder.glob(CHECKSUMS)) for name, digest in _read_sums(path).items()}
    if not sums:
        yield Finding("note", f"no checksums in {folder} (the release has checksums.md5): contents were not compared")
        return
    by_name = {path.name: path for path in folder.rglob("*") if path.is_file()}  # the layout may be the other one
    places = {name: folder / name if (folder / name).is_file() else by_name.get(Path(name).name) for name in sums}
    here = {name: path for name, path in places.items() if path is not None}
    size = sum(path.stat().st_size for path in here.values())
    with tqdm(desc="checksums", total=size, unit="B", unit_scale=True, disable=not progress) as bar:
        for name, path in here.items():
            digest = hashlib.md5(usedforsecurity=False)
            with open(path, "rb") as file:
                while block := file.read(READ_BYTES):
                    digest.update(block)
                    bar.update(len(block))
            if digest.hexdigest() != sums[name]:
                yield Finding("broken", f"{path.relative_to(folder)} differs from its checksum; copy it again")
    absent = sorted(set(sums) - set(here))
    rest = f"; {len(absent)} listed files are not here: {some(absent)}" if absent else ""
    yield Finding("note", f"{len(here)} files were compared with their checksums{rest}")


def _read_sums(path: Path) -> dict[str, str]:
    """Read lines of `md5sum`: a digest, then a path, perhaps after a * and with another system's slashes."""
    sums = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        digest, _, name = line.strip().partition(" ")
        if len(digest) == 32 and name:
            sums[name.strip().removeprefix("*").replace("\\", "/").removeprefix("./")] = digest.lower()
    return sums


def _named(name: str, error: Exception) -> str:
    return str(error) if name in str(error) else f"{name}: {error}"
