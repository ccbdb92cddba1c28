"""All figures of a cohort, from the records of its slides."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_hf.cohorts.camelyon16 import LABELS
from wsi_hf.evaluation.decision import decision_figures
from wsi_hf.evaluation.froc.curve import Convention, FrocResult
from wsi_hf.evaluation.froc.detection_files import write_detections
from wsi_hf.evaluation.froc.interval import FrocInterval, froc_interval
from wsi_hf.evaluation.froc.masks import mask_from_polygons, mask_scale
from wsi_hf.evaluation.froc.patches import patch_figures
from wsi_hf.evaluation.froc.scoring import froc
from wsi_hf.evaluation.pixel import PixelResult, PixelScores
from wsi_hf.evaluation.records import SlideRecord
from wsi_hf.evaluation.roc import RocResult, roc_auc
from wsi_hf.evaluation.slide_rows import SlideRow
from wsi_hf.evaluation.summary import metrics, roc_figure
from wsi_hf.segmentation.calibration import UNCALIBRATED
from wsi_hf.segmentation.slide_score import AREA_UM2


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of a cohort.

    Attributes:
        records: the slides that were judged.
        failed: {slide_id: why it could not be}.
        roc: over all slides that were judged.
        robust_roc: the same with the slides ranked by their robust margin.
        froc: over those whose tumour is outlined wholly, and benign ones.
        interval: of FROC.
        pixels: over the same slides as FROC.
        split: which slides of the cohort were judged.
        dataset: what the cohort is called, and whose labels it has; None where it has no name.
    """

    records: dict[str, SlideRecord]
    failed: dict[str, str]
    roc: RocResult
    robust_roc: RocResult
    froc: FrocResult
    interval: FrocInterval
    pixels: PixelResult = field(repr=False)
    split: str = "unknown"
    dataset: str | None = None

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Give what metrics.json holds: the figures, and under "cohort" which slides stand behind them."""
        figures = metrics(self.roc, self.froc, self.interval, self.pixels)
        located = {name: record.patches for name, record in self.records.items() if record.located}
        figures |= patch_figures({name: patches for name, patches in located.items() if patches is not None})
        robust = {"area_um2": AREA_UM2}
        figures |= {"slide_auc_robust": roc_figure(self.robust_roc) | robust} | decision_figures(self.records)
        return figures | {"cohort": self._cohort()}

    def rows(self) -> list[SlideRow]:
        """Give one row a slide, the worst first."""
        errors = dict(zip(self.records, self._errors(), strict=True))
        rows = [self._row(record, errors[name]) for name, record in self.records.items()]
        wrong = {name: record.margin if not record.label else -record.margin for name, record in self.records.items()}
        return sorted(rows, key=lambda row: (-np.nan_to_num(row.error), -wrong[row.slide_id]))

    def _cohort(self) -> dict[str, Any]:
        scanners = [f"{record.mpp:.3f}" for record in self.records.values()]
        return {
            "split": self.split,
            "dataset": self.dataset,
            "n": len(self.records),
            "n_malignant": sum(record.label for record in self.records.values()),
            "not_in_froc_and_pixels": {
                name: _why_not_located(record) for name, record in self.records.items() if not record.located
            },
            "partly_not_analysed": sorted(name for name, record in self.records.items() if record.not_analysed),
            "failed": self.failed,
            "mpp_l0": {mpp: scanners.count(mpp) for mpp in sorted(set(scanners))},
        }

    def _errors(self) -> NDArray[np.float64]:
        """Compute the share of slides of the other label on the wrong side of each slide, shape (n,)."""
        label = np.array([record.label for record in self.records.values()])
        margin = np.array([record.margin for record in self.records.values()])
        above = (np.sign(margin - margin[:, None]) + 1) / 2  # [other, slide]: 1 where the slide stands above, ties 1/2
        wrong = np.where(label == 0, above, 1 - above) * (label != label[:, None])
        with np.errstate(invalid="ignore"):
            return wrong.sum(axis=0) / (label != label[:, None]).sum(axis=0)

    def _row(self, record: SlideRecord, error: float) -> SlideRow:
        findings = self.froc.lesions.get(record.slide_id)
        pixels = self.pixels.slides.get(record.slide_id)
        spots, cut = len(record.not_analysed), record.scale[1]
        notes = [_why_not_located(record)] if not record.located else []
        notes += [f"{spots} spots not analysed"] if spots else []
        notes += [warning for warning in record.warnings if warning != UNCALIBRATED]  # which is said once, for all
        return SlideRow(
            slide_id=record.slide_id,
            label=LABELS[record.label],
            called=LABELS[record.score >= 0.5],
            score=record.score,
            raw_score=record.raw_score,
            margin=record.margin,
            error=float(error),
            outlined=len(record.lesions_um2),
            lesions=len(findings.best_score) if findings else None,
            found=sum(s is not None and s >= record.scale[1] for s in findings.best_score.values())
            if findings
            else None,
            false_positives=int((findings.false_positives >= cut).sum()) if findings else None,
            average_precision=pixels.average_precision if pixels else np.nan,
            dice=pixels.dice if pixels else np.nan,
            mpp=record.mpp,
            note="; ".join(notes),
        )


def evaluate_records(
    records: Mapping[str, SlideRecord],
    failed: Mapping[str, str] | None = None,
    convention: Convention = "challenge",
    include_itc: bool = False,
    split: str = "unknown",
    dataset: str | None = None,
) -> Evaluation:
    """Compute all figures with their intervals.

    Args:
        records: of the slides that were judged, at least one.
        failed: {slide_id: why it could not be}.
        convention: of FROC, "challenge" or "release".
        include_itc: FROC counts isolated tumour cells as lesions, against the challenge's rule.
        split: which slides of the cohort they are.
        dataset: what the cohort is called.
    """
    if not records:
        reasons = "".join(f"\n{name}: {why}" for name, why in (failed or {}).items())
        raise ValueError(f"no slide could be judged{reasons or ': there are none'}")
    located = {name: record for name, record in records.items() if record.located}
    if not located:
        raise ValueError("neither a benign slide nor one with all its tumour outlined: nothing to compare with")
    pixels = PixelScores()
    for name, record in located.items():
        if record.pixels is not None:
            pixels.take(name, record.pixels)
    curve = _froc(located, convention, include_itc)
    labels = [record.label for record in records.values()]
    return Evaluation(
        records=dict(records),
        failed=dict(failed or {}),
        roc=roc_auc(labels, [record.margin for record in records.values()]),
        robust_roc=roc_auc(labels, [record.robust_margin for record in records.values()]),
        froc=curve,
        interval=froc_interval(curve),
        pixels=pixels.result(),
        split=split,
        dataset=dataset,
    )


def write_detection_folder(folder: Path, records: Mapping[str, SlideRecord]) -> None:
    """Write `<slide_id>.csv` of every slide, its scores as probabilities, and remove those of other slides."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.csv"):
        if path.stem not in records:
            path.unlink()
    for name, record in records.items():
        margin, places = np.split(record.detections, [1], axis=1)
        write_detections(folder / f"{name}.csv", np.hstack([record.pixel_probability(margin), places]))


class _Masks(Mapping[str, NDArray[np.uint8] | None]):
    """Evaluation masks, each rasterised when it is asked for: a cohort's masks together would fill the memory."""

    def __init__(self, records: Mapping[str, SlideRecord]) -> None:
        self._records = records

    def __getitem__(self, slide_id: str) -> NDArray[np.uint8] | None:
        record = self._records[slide_id]
        if not record.label or record.outline is None:
            return None
        return mask_from_polygons(record.outline, record.dimensions_l0, mask_scale(record.mpp)[1])

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def _froc(located: Mapping[str, SlideRecord], convention: Convention, include_itc: bool) -> FrocResult:
    scales = {name: mask_scale(record.mpp) for name, record in located.items()}
    own = convention == "release"  # which takes each slide's own spacing
    return froc(
        _Masks(located),
        {name: record.detections for name, record in located.items()},
        convention,
        mpp={name: located[name].mpp if own else mpp for name, (mpp, _) in scales.items()},
        downsample={name: downsample for name, (_, downsample) in scales.items()},
        tumour_value=1,
        include_itc=include_itc,
    )


def _why_not_located(record: SlideRecord) -> str:
    return "no annotation" if record.outline is None else "not exhaustively annotated"
