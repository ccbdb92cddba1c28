"""FROC by the rules of CAMELYON16, as a module of `evaluate`."""

import datasets
import evaluate

from wsi_hf.evaluation.froc.curve import Convention
from wsi_hf.evaluation.froc.interval import froc_interval
from wsi_hf.evaluation.froc.scoring import froc
from wsi_hf.evaluation.summary import froc_figure

DESCRIPTION = (
    "Lesion sensitivity against false positives per slide, by the rules of the CAMELYON16 challenge: the mean of the "
    "sensitivities at 1/4, 1/2, 1, 2, 4 and 8 false positives a slide, with a bootstrap interval over slides."
)
INPUTS = """
Args:
    predictions: for each slide a list of detections [score, x, y], x and y in level-0 pixels; may be empty.
    references: for each slide its tumour mask (H, W), uint8, level 5; an empty list for a slide without lesions.
    slide_ids: names for error messages, by default slide_0, slide_1, ...
    convention: "challenge" (default) or "release".
    mpp: um per level-0 pixel, one number or one a slide. Default: the challenge's 0.243.
    downsample: level-0 pixels per mask pixel, one number or one a slide. Default: the challenge's 32.
    include_itc: count isolated tumour cells as lesions; the challenge does not.
    n_resamples: bootstrap resamples of slides; 0 leaves out the interval.
    seed: seed of the bootstrap.
Returns:
    froc: mean sensitivity; ci95: its interval; n: slides; n_lesions; n_isolated_tumour_cells; sensitivity_at:
    sensitivity at each rate; convention; include_itc.
"""
CITATION = """
@article{ehteshami2017diagnostic,
  title = {Diagnostic Assessment of Deep Learning Algorithms for Detection of Lymph Node Metastases in Women With Breast
    Cancer},
  author = {Ehteshami Bejnordi, Babak and others},
  journal = {JAMA},
  volume = {318},
  number = {22},
  pages = {2199--2210},
  year = {2017}
}
"""


class Froc(evaluate.Metric):
    """`evaluate.load("wsi_hf/evaluation/metrics/froc")`, or this class itself."""

    def _info(self) -> evaluate.MetricInfo:
        detection = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))
        mask = datasets.Sequence(datasets.Sequence(datasets.Value("uint8")))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": detection, "references": mask}),
        )

    def _compute(
        self,
        predictions: list,
        references: list,
        slide_ids: list[str] | None = None,
        convention: Convention = "challenge",
        mpp: float | list[float] = 0.243,
        downsample: float | list[float] = 32.0,
        include_itc: bool = False,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> dict[str, object]:
        names = slide_ids or [f"slide_{i}" for i in range(len(predictions))]
        result = froc(
            dict(zip(names, references, strict=True)),
            dict(zip(names, predictions, strict=True)),
            convention,
            mpp=_of_each(mpp, names),
            downsample=_of_each(downsample, names),
            include_itc=include_itc,
        )
        figure = froc_figure(result, froc_interval(result, n_resamples, seed))
        return {"froc": figure.pop("value")} | figure


def _of_each(value: float | list[float], names: list[str]) -> float | dict[str, float]:
    return dict(zip(names, value, strict=True)) if isinstance(value, list) else value
