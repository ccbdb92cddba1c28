"""The evaluation's figures as the dictionary that becomes metrics.json: each with its n and its interval."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsi_hf.evaluation.estimates import json_number
from wsi_hf.evaluation.froc.curve import RATES, FrocResult
from wsi_hf.evaluation.froc.interval import FrocInterval, froc_estimate
from wsi_hf.evaluation.pixel import PixelResult
from wsi_hf.evaluation.roc import RocResult
from wsi_hf.slides.replacing import replacing


def metrics(
    roc: RocResult, froc: FrocResult, froc_interval: FrocInterval | None = None, pixels: PixelResult | None = None
) -> dict[str, dict[str, object]]:
    """Collect the figures of one evaluation.

    Returns:
        `slide_auc`, `froc` and, with `pixels`, `pixel_average_precision`, `dice` and `dice_malignant`; these three
        again under `..._outside_band` where outlines had an uncertainty band. Each holds `value`, `ci95` and `n`, the
        number of slides; undefined numbers are None.
    """
    figures = {"slide_auc": roc_figure(roc), "froc": froc_figure(froc, froc_interval)}
    if pixels is not None:
        figures |= _pixel_figures(pixels, "")
        if pixels.outside_band is not None:
            figures |= _pixel_figures(pixels.outside_band, "_outside_band")
    return figures


def roc_figure(roc: RocResult) -> dict[str, object]:
    """Give the slide AUC with both intervals."""
    delong = None if roc.ci95_delong is None else list(roc.ci95_delong)
    return roc.estimate().to_json() | {"ci95_delong": delong}


def froc_figure(froc: FrocResult, interval: FrocInterval | None = None) -> dict[str, object]:
    """Give the FROC score, the sensitivity at each of the six rates and by which rules."""
    at = {f"{rate:g}": json_number(value) for rate, value in zip(RATES, froc.sensitivity_at, strict=True)}
    itc = sum(len(slide.itc_labels) for slide in froc.lesions.values())
    return froc_estimate(froc, interval).to_json() | {
        "n_isolated_tumour_cells": itc,
        "sensitivity_at": at,
        "convention": froc.convention,
        "include_itc": froc.include_itc,
    }


def summary_lines(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Give one line a figure: its name, value, interval and n; and what was judged at which operating point."""
    for name, figure in figures.items():
        if "value" in figure:
            value = "undefined" if figure["value"] is None else f"{figure['value']:.3f}"
            ci95 = figure["ci95"]
            interval = f" ({ci95[0]:.3f}-{ci95[1]:.3f})" if ci95 and None not in ci95 else ""
            yield f"{name}\t{value}{interval}\tn = {figure['n']}"
    if "decision" in figures:
        split, cut = figures["cohort"]["split"], "not calibrated: 0.5 says little"
        if figures["decision"]["calibrated"]:
            cut = f"0.5 is the operating point{'' if split == 'test' else ', perhaps set on these very slides'}"
        yield f"judged on: {split} slides; {cut}"


def write_metrics(figures: dict[str, dict[str, object]], path: str | Path) -> None:
    """Write metrics.json under a temporary name and rename it."""
    with replacing(path) as part:
        part.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _pixel_figures(pixels: PixelResult, suffix: str) -> dict[str, dict[str, object]]:
    return {
        f"pixel_average_precision{suffix}": pixels.average_precision.to_json(),
        f"dice{suffix}": pixels.dice.to_json(),
        f"dice_malignant{suffix}": pixels.dice_malignant.to_json(),
    }
