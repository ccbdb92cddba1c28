"""ROC AUC over slides with its intervals, as a module of `evaluate`."""

import datasets
import evaluate

from wsi_hf.evaluation.roc import roc_auc
from wsi_hf.evaluation.summary import roc_figure

DESCRIPTION = (
    "Area under the ROC curve over whole slides, with a bootstrap interval over slides, stratified by label, and "
    "DeLong's. Needs no network."
)
INPUTS = """
Args:
    predictions: for each slide its score, any real number, larger = more malignant.
    references: for each slide its label, 0 = benign, 1 = malignant.
    n_resamples: bootstrap resamples of slides; 0 leaves out that interval.
    seed: seed of the bootstrap.
Returns:
    slide_auc; ci95: bootstrap interval; ci95_delong; n: slides; n_malignant. None where undefined.
"""
CITATION = """
@article{delong1988comparing,
  title = {Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves},
  author = {DeLong, Elizabeth R. and DeLong, David M. and Clarke-Pearson, Daniel L.},
  journal = {Biometrics},
  volume = {44},
  number = {3},
  pages = {837--845},
  year = {1988}
}
"""


class SlideAuc(evaluate.Metric):
    """`evaluate.load("wsi_hf/evaluation/metrics/slide_auc")`, or this class itself."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self, predictions: list[float], references: list[int], n_resamples: int = 2000, seed: int = 0
    ) -> dict[str, object]:
        figure = roc_figure(roc_auc(references, predictions, n_resamples, seed))
        return {"slide_auc": figure.pop("value")} | figure
