"""Calibrate a model on labelled slides that it was not trained on, and say how sure one can be of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from transformers import PreTrainedModel

from wsi_hf.calibration.intervals import share_interval
from wsi_hf.calibration.lesion_limit import LesionLimit, limit_lesions
from wsi_hf.calibration.likeness import likeness_of
from wsi_hf.calibration.measuring import Measurer, SlideMeasure
from wsi_hf.calibration.slide_decision import Rule, SlideDecision, decide_slides, fit
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.segmentation.calibration import Calibration
from wsi_hf.segmentation.slide_score import POOLED_UM2
from wsi_hf.slides.replacing import write_text

RECORDS = "_calibration"
"""Folder of the slides' records; a push to the Hub leaves it out."""
FEWEST = 4
"""Slides of each class, fewer say nothing."""
USEFUL = 20
BENIGN_P = 0.05
"""What the pixels of benign tissue may show on average."""


class TooFewSlidesError(ValueError):
    """Not enough slides of a class to set an operating point."""


def calibrate(
    network: PixelNetwork,
    slides: Sequence[Mapping[str, Any]],
    folder: str | Path,
    rule: Rule = "balanced accuracy",
    level: float = 0.0,
    false_lesions: float = 0.25,
    mpp: float | None = None,
    progress: bool = True,
    **reading: Any,
) -> tuple[Calibration, dict[str, str]]:
    """Segment the slides and set the operating points of slides and pixels from their labels.

    Args:
        network: the model, calibrated before or not: only its margins are looked at.
        slides: rows of a cohort that the model was not trained on; annotations are not read.
        folder: where the slides' records go, in `_calibration/`.
        rule, level: see `decide_slides`.
        false_lesions: how many lesions a benign slide may show on average.
        mpp: um per level-0 pixel of slides whose files do not say.
        reading: tile_size, batch_size, num_workers of `segment_slide`.

    Returns:
        The calibration, and {slide_id: why it could not be read}.

    Raises:
        TooFewSlidesError: fewer than four slides of a class.
        ValueError: the model's margins do not tell the classes apart.
    """
    _check_counts([row["label"] for row in slides], {})
    measured, failed = Measurer(network, Path(folder) / RECORDS, mpp, **reading).measure_all(slides, progress)
    _check_counts([slide.label for slide in measured], failed)
    return calibration_from(measured, rule, level, false_lesions), failed


def calibrate_trained(
    model: PreTrainedModel, image_processor: WsiImageProcessor, slides: Sequence[Mapping[str, Any]], folder: str | Path
) -> list[str]:
    """Calibrate a model at the end of its training and write that into its folder's config.json.

    Args:
        slides: the validation slides.
        folder: where the trained model lies.

    Returns:
        What came of it, in sentences; a model that cannot be calibrated stays as it is.
    """
    try:
        calibration, _ = calibrate(PixelNetwork(model, image_processor), slides, folder)
    except ValueError as error:
        return [f"The model is not calibrated: {error}."]
    model.config.calibration = calibration.to_config()
    save_calibration(folder, calibration)
    return list(certainty(calibration))


def calibration_from(
    slides: Sequence[SlideMeasure], rule: Rule = "balanced accuracy", level: float = 0.0, false_lesions: float = 0.25
) -> Calibration:
    """Set the operating points from measured slides."""
    labels = np.array([slide.label for slide in slides])
    pooled = {area: np.array([slide.pooled[area] for slide in slides]) for area in POOLED_UM2}
    decision = decide_slides(labels, pooled, rule, level)
    limit = limit_lesions(slides, false_lesions)
    return Calibration(
        area_um2=decision.area_um2,
        slope=decision.slope,
        bias=decision.bias,
        temperature=pixel_temperature(slides, fit(labels, pooled[0.0])[0], limit.shift),
        shift=limit.shift,
        smallest_um2=limit.smallest_um2,
        rule=rule if rule == "balanced accuracy" else f"{rule} {level:g}",
        n_benign=int((labels == 0).sum()),
        n_malignant=int((labels == 1).sum()),
        expected=_expected(labels, decision, limit, false_lesions),
        likeness=likeness_of(slides),
    )


def pixel_temperature(slides: Sequence[SlideMeasure], slope: float, shift: float) -> float:
    """How fast pixels fade: as their slide's probability does, or faster, until benign tissue shows `BENIGN_P`.

    Args:
        slope: of the slide's probability over its largest margin.
        shift: the margin of P = 0.5.
    """
    slowest = 1 / max(slope, 0.05)
    benign = np.array([slide.tissue for slide in slides if not slide.label and len(slide.tissue)])  # (n, SHARES)
    if not len(benign):
        return slowest
    temperatures = np.geomspace(slowest, slowest / 100, 100).tolist()
    return next((t for t in temperatures if expit((benign - shift) / t).mean() <= BENIGN_P), slowest)


def save_calibration(model_folder: str | Path, calibration: Calibration) -> None:
    """Write the calibration into a model's config.json, under a temporary name that is then renamed."""
    path = Path(model_folder) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["calibration"] = calibration.to_config()
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _expected(
    labels: NDArray[np.int64], decision: SlideDecision, limit: LesionLimit, false_lesions: float
) -> dict[str, Any]:
    """What a user may expect of further slides: cross-validated rates with their intervals, bounds on lesions."""
    called = decision.held_out >= 0
    return {
        "sensitivity": _rate(called[labels == 1]),
        "specificity": _rate(~called[labels == 0]),
        "log_loss": {f"{area:g} um2": loss for area, loss in decision.losses.items()},
        "false_lesions": {
            "wanted": false_lesions,
            "bound": limit.bound,
            "met": limit.met,
            "counted_per_slide": limit.most,
            "mean": limit.mean,
            "any_share": limit.any_share,
        },
        "malignant_slides_with_lesion": limit.kept,
        "note": decision.note,
    }


def _rate(right: NDArray[np.bool_]) -> dict[str, Any]:
    hits, n = int(right.sum()), len(right)
    return {"value": hits / n, "ci95": list(share_interval(hits, n)), "n": n}


def certainty(calibration: Calibration) -> Iterator[str]:
    """What the calibration is, and how sure one can be of it, in sentences."""
    facts, benign, malignant = calibration.expected, calibration.n_benign, calibration.n_malignant
    area = calibration.area_um2
    yield (
        f"Calibrated on {benign} benign and {malignant} malignant slides; operating point: {calibration.rule}; "
        f"a slide's probability follows its largest {'pixel' if not area else f'{area:g} um2 of margins'}."
    )
    for name in ("sensitivity", "specificity"):
        rate, (low, high) = facts[name]["value"], facts[name]["ci95"]
        yield f"Cross-validated {name}: {rate:.2f} (95 % interval {low:.2f}-{high:.2f}, n = {facts[name]['n']})."
    if facts["note"]:
        yield f"But: {facts['note']}."
    yield (
        f"Lesions are pixels of a margin of {calibration.shift:g} and more, {calibration.smallest_um2:g} um2 at least; "
        f"{facts['malignant_slides_with_lesion']:.0%} of the malignant slides show one."
    )
    yield _promise(facts["false_lesions"], benign)
    if min(benign, malignant) < USEFUL:
        yield f"With {USEFUL} slides of each class or more the intervals would be narrower."
    if seen := calibration.likeness:
        yield f"Slides unlike these are warned of; false alarms on their own kind: {seen.false_alarms:.0%} of {seen.n}."


def _promise(lesions: Mapping[str, Any], n: int) -> str:
    wanted, any_share = lesions["wanted"], f"with a chance of at most {lesions['any_share']:.2f}"
    if lesions["met"]:
        return (
            f"A further benign slide shows at most {lesions['bound']:.2f} lesions on average, wanted {wanted:g} "
            f"(counting at most {lesions['counted_per_slide']} a slide), and any {any_share}."
        )
    return (
        f"At most {wanted:g} lesions a benign slide cannot be promised with {n} benign slides. The pixels' cut lies "
        f"where the fewest of them show one; a further one does {any_share}."
    )


def _check_counts(labels: Sequence[int], failed: Mapping[str, str]) -> None:
    malignant = sum(labels)
    benign = len(labels) - malignant
    if min(benign, malignant) < FEWEST:
        left_out = f" ({len(failed)} could not be read)" if failed else ""
        raise TooFewSlidesError(
            f"{benign} benign and {malignant} malignant slides are too few to calibrate on{left_out}: {FEWEST} of each "
            f"class are needed, {USEFUL} of each give a useful operating point"
        )
