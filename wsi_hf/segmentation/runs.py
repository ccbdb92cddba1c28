"""A folder of segmented slides: one sub-folder each, finished ones known again, interrupted ones done anew."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import psutil

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.streaming import Tissue
from wsi_hf.segmentation.outputs import SUMMARY, ZARR
from wsi_hf.segmentation.provenance import slide_fingerprint
from wsi_hf.segmentation.segmentation import describe_run, segment_slide
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.replacing import replacing
from wsi_hf.slides.slide import Slide

RUN = "run.json"
TABLE = "slides.csv"
COLUMNS = (
    *("slide_id", "label", "score", "calibrated", "raw_score", "margin", "lesions", "lesion_area_um2"),
    *("tissue_area_um2", "spots_not_analysed", "warnings", "error"),
)


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
        self._remove_leftovers()

    def finished(self, slide: Slide, fingerprint: str) -> dict[str, Any] | None:
        """The summary of a slide that is done; None where it is not.

        Raises:
            SlideError: another slide of the same name is there.
        """
        path = self.folder / slide.slide_id / SUMMARY
        if not path.exists():
            return None
        summary = json.loads(path.read_text(encoding="utf-8"))
        if (summary["slide"].get("fingerprint"), summary["slide"]["mpp"]) != (fingerprint, slide.mpp):
            raise SlideError(
                f"{slide.slide_id}: {path.parent} holds the results of another slide of that name (or of another mpp); "
                "rename one of them or write to another folder"
            )
        return summary

    def segment(self, slide: Slide, **options: Any) -> dict[str, Any]:
        """Segment a slide into its folder, unless that is done.

        Args:
            slide: the slide.
            options: tile_size, batch_size, num_workers, progress of `segment_slide`.

        Returns:
            The summary, with "folder" added.
        """
        fingerprint = slide_fingerprint(slide)
        target = self.folder / slide.slide_id
        summary = self.finished(slide, fingerprint)
        if summary is None:
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
            summary = result.summary
        return {**summary, "folder": str(target)}

    def note(self, result: dict[str, Any]) -> None:
        """Write slides.csv anew, with one line for each slide of this run so far, failed ones too."""
        spots, warnings = len(result.get("not_analysed", ())), "; ".join(result.get("warnings", ()))
        self._table[result["slide_id"]] = {**result, "spots_not_analysed": spots, "warnings": warnings}
        with replacing(self.folder / TABLE) as part, open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows(self._table.values())

    def _check_run(self) -> None:
        described = describe_run(self.network, None, self.tissue, self.threshold, self.smallest_um2)
        ours = {"model": described["model"]["fingerprint"], "settings": described["settings"]}
        path = self.folder / RUN
        if path.exists():
            theirs = json.loads(path.read_text(encoding="utf-8"))
            if theirs != ours:
                differences = [
                    name for name in ours["settings"] if theirs["settings"].get(name) != ours["settings"][name]
                ]
                what = (
                    "another model" if theirs["model"] != ours["model"] else "other settings: " + ", ".join(differences)
                )
                raise ValueError(f"{self.folder} belongs to another run ({what}); choose another folder")
        elif any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise ValueError(f"{self.folder} is not empty and holds no {RUN} of an earlier run; choose another folder")
        else:
            with replacing(path) as part:
                part.write_text(json.dumps(ours, indent=2) + "\n", encoding="utf-8")

    def _remove_leftovers(self) -> None:
        """Remove what processes that are no more left unfinished."""
        for path in self.folder.glob(".*.part"):
            found = re.search(r"\.(\d+)\.part$", path.name)
            if found and not psutil.pid_exists(int(found.group(1))):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
