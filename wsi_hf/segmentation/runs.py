"""A folder of segmented slides: one sub-folder each, finished ones known again, interrupted ones done anew."""

import csv
import errno
import json
import logging
from pathlib import Path
from typing import Any

import zarr

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.tissue import Tissue
from wsi_hf.segmentation.outputs import GEOJSON, OVERLAY, SUMMARY, TIFF, ZARR
from wsi_hf.segmentation.provenance import mask_fingerprint, slide_fingerprint
from wsi_hf.segmentation.segmentation import describe_run, segment_slide
from wsi_hf.slides.damaged import DamagedFileError, reading
from wsi_hf.slides.handles import SlideError, file_stamp
from wsi_hf.slides.names import no_formula
from wsi_hf.slides.replacing import remove_leftovers, replacing, write_text
from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

RUN = "run.json"
TABLE = "slides.csv"
COLUMNS = (
    *("slide_id", "label", "score", "calibrated", "raw_score", "margin", "lesions", "lesion_area_um2"),
    *("tissue_area_um2", "spots_not_analysed", "warnings", "error"),
)
FACTS = (
    *("slide_id", "label", "score", "calibrated", "raw_score", "margin", "lesions", "lesion_area_um2"),
    *("tissue_area_um2", "warnings", "not_analysed", "slide", "model", "settings"),
)
"""What a summary says of a slide."""


class SegmentationFolder:
    """Results of one model with one set of settings.

    A slide's folder appears under its name only when everything in it is complete. It is known again by the hash of the
    slide's content, of the model's weights and by the settings, never by its mere presence.
    """

    def __init__(
        self,
        folder: str | Path,
        network: PixelNetwork,
        tissue: Tissue = "auto",
        threshold: float = 0.5,
        smallest_um2: float | None = None,
    ) -> None:
        """
        Args:
            folder: new, empty, or of an earlier run with the same model and settings.
            network, tissue, threshold, smallest_um2: as for `segment_slide`.

        Raises:
            ValueError: the folder belongs to another run, or to something else.
        """
        self.folder, self.network = Path(folder), network
        self.tissue, self.threshold, self.smallest_um2 = tissue, threshold, smallest_um2
        self._table: dict[str, dict[str, Any]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_run()
        remove_leftovers(self.folder)

    def finished(self, slide: Slide, fingerprint: str) -> dict[str, Any] | None:
        """The summary of a slide that is done; None where it is not, or where its files are damaged.

        Raises:
            SlideError: another slide of the same name is there.
        """
        path = self.folder / slide.slide_id / SUMMARY
        if not path.parent.exists():
            return None
        try:
            summary = _complete(path.parent)
        except (DamagedFileError, FileNotFoundError) as error:
            logger.warning("%s is segmented again: %s", slide.slide_id, error)
            return None
        if (summary["slide"]["fingerprint"], summary["slide"]["mpp"]) != (fingerprint, slide.mpp):
            raise SlideError(
                f"{slide.slide_id}: {path.parent} holds the results of another slide of that name (or of another mpp); "
                "rename one of them or write to another folder"
            )
        made_by = {"model": summary["model"]["fingerprint"], "settings": summary["settings"]}
        return summary if made_by == self._ours else None

    def segment(self, slide: Slide, **options: Any) -> dict[str, Any]:
        """Segment a slide into its folder, unless that is done.

        Args:
            slide: the slide.
            options: tile_size, batch_size, num_workers, progress of `segment_slide`.

        Returns:
            The summary, with "folder" added.
        """
        fingerprint = slide_fingerprint(slide)
        if mask := mask_fingerprint(self.tissue, slide):
            fingerprint = f"{fingerprint}-{mask}"
        target = self._folder_of(slide)
        summary = self.finished(slide, fingerprint)
        if summary is None:
            _set_aside(target)
            before = file_stamp(slide.path)
            with replacing(target) as part:
                part.mkdir()
                result = segment_slide(
                    self.network,
                    slide,
                    tissue=self.tissue,
                    threshold=self.threshold,
                    smallest_um2=self.smallest_um2,
                    map_path=part / ZARR,
                    **options,
                )
                result.provenance["slide"] |= {"fingerprint": fingerprint, "path": str(slide.path.absolute())}
                result.write_beside_map(part)
                if file_stamp(slide.path) != before:
                    raise SlideError(f"{slide.slide_id} was replaced while it was segmented; do it again")
            summary = result.summary
        return {**summary, "folder": str(target)}

    def note(self, result: dict[str, Any]) -> None:
        """Write slides.csv anew, with one line for each slide of this run so far, failed ones too."""
        spots, warnings = len(result.get("not_analysed", ())), "; ".join(result.get("warnings", ()))
        self._table[result["slide_id"]] = {**result, "spots_not_analysed": spots, "warnings": warnings}
        with replacing(self.folder / TABLE) as part, open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows({name: no_formula(row.get(name)) for name in COLUMNS} for row in self._table.values())

    def _folder_of(self, slide: Slide) -> Path:
        """Where a slide's results go.

        Raises:
            SlideError: another slide is there whose name differs in capitals alone: on some systems one folder.
        """
        name = slide.slide_id
        for entry in self.folder.iterdir():
            if entry.name != name and entry.name.casefold() == name.casefold():
                raise SlideError(f"{name}: {entry} differs from it in capitals alone; rename one of the slides")
        return self.folder / name

    def _check_run(self) -> None:
        described = describe_run(self.network, None, self.tissue, self.threshold, self.smallest_um2)
        ours = {"model": described["model"]["fingerprint"], "settings": described["settings"]}
        self._ours, path = ours, self.folder / RUN
        if not path.exists() and any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise ValueError(f"{self.folder} is not empty and holds no {RUN} of an earlier run; choose another folder")
        theirs = self._read_run(path) if path.exists() else None
        if theirs is None:
            write_text(path, json.dumps(ours, indent=2) + "\n")
        elif theirs != ours:
            names = [name for name in ours["settings"] if theirs["settings"][name] != ours["settings"][name]]
            what = "another model" if theirs["model"] != ours["model"] else "other settings: " + ", ".join(names)
            raise ValueError(f"{self.folder} belongs to another run ({what}); choose another folder")

    def _read_run(self, path: Path) -> dict[str, Any] | None:
        """What an earlier run wrote down; None where that is damaged or of another version of this package."""
        try:
            with reading(path, "of a run of this package"):
                theirs = json.loads(path.read_text(encoding="utf-8"))
                if set(theirs["settings"]) == set(self._ours["settings"]) and isinstance(theirs["model"], str):
                    return theirs
            logger.warning("%s was written by another version of wsi_hf: slides are segmented again", path)
        except DamagedFileError as error:
            logger.warning("%s: slides of other settings are segmented again", error)
        return None


def _complete(folder: Path) -> dict[str, Any]:
    """The summary of a finished slide, once all its files are seen to be there."""
    if absent := [name for name in (TIFF, GEOJSON, OVERLAY, ZARR) if not (folder / name).exists()]:
        raise FileNotFoundError(errno.ENOENT, "missing", str(folder / absent[0]))
    with reading(folder / ZARR, "the map of a slide"):
        if zarr.open_array(folder / ZARR, mode="r").ndim != 2:
            raise ValueError("it has not two dimensions")
    return read_summary(folder / SUMMARY)


def read_summary(path: Path) -> dict[str, Any]:
    """What was written of a finished slide.

    Raises:
        DamagedFileError: it is damaged, or of another version of this package; the message names the file.
    """
    with reading(path, "a summary of this package"):
        summary = json.loads(path.read_text(encoding="utf-8"))
        if absent := [name for name in FACTS if name not in summary]:
            raise ValueError(f"{', '.join(absent)} is missing")
        made_of = summary["slide"]["fingerprint"], summary["model"]["fingerprint"]
        if not all(made_of) or not isinstance(summary["slide"]["mpp"], int | float):
            raise ValueError("what it was made of is missing")
        return summary


def _set_aside(folder: Path) -> None:
    """Move what stands in the way of a slide's results; nothing of it is deleted, for it may be somebody's."""
    if not folder.exists():
        return
    number = next(n for n in range(1, 10_000) if not folder.with_name(f"{folder.name}.damaged-{n}").exists())
    aside = folder.with_name(f"{folder.name}.damaged-{number}")
    folder.rename(aside)
    logger.warning("%s was kept as %s", folder, aside.name)
