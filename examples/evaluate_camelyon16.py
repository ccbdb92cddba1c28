"""Judge a model on the test slides of a cohort as the CAMELYON16 challenge does.

    python examples/evaluate_camelyon16.py --model runs/demo --cohort CAMELYON16 --out evaluation

Writes metrics.json (slide AUC, FROC, pixel average precision, Dice, each with n and interval), detections/*.csv in the
challenge's format, roc.png, froc.png and overlays.png. A second a slide of 0.6 megapixels on one CPU core.
"""

import argparse
import json
from pathlib import Path

from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

import wsi_hf
from wsi_hf.evaluation.cohort import evaluate_cohort


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder, or name on the Hub")
    parser.add_argument("--cohort", required=True, help="CAMELYON16 folder, or a CSV table")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--detection_radius_um", type=float, default=187.0, help="no two detections lie nearer")
    parser.add_argument(
        "--include_itc", action="store_true", help="count lesions under 275 um too, unlike the challenge"
    )
    arguments = parser.parse_args()

    slides = wsi_hf.load_cohort(arguments.cohort).filter(lambda row: row["split"] == arguments.split)
    figures = evaluate_cohort(
        AutoModelForSemanticSegmentation.from_pretrained(arguments.model),
        slides,
        arguments.out,
        AutoImageProcessor.from_pretrained(arguments.model),
        arguments.detection_radius_um,
        arguments.include_itc,
    )
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
