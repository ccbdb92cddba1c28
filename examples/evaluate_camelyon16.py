"""Judge a model on the test slides of a cohort as the CAMELYON16 challenge does; several processes share the slides.

    wsi-hf evaluate --check --cohort CAMELYON16                                       # first: is the copy complete?
    accelerate launch examples/evaluate_camelyon16.py --model runs/camelyon16 --cohort CAMELYON16 --out evaluation
    accelerate launch --multi_gpu --num_processes 2 examples/evaluate_camelyon16.py ...   # two processes, also on CPUs

Writes metrics.json (slide AUC, FROC, pixel average precision, Dice, each with n and interval), slides.csv,
detections/*.csv in the challenge's format, curves, and report.html with all of it. A stopped run goes on with the
same command. A second a slide of 0.6 megapixels on one CPU core. `wsi-hf evaluate` does the same and has more options.
"""

import argparse
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

import wsi_hf
from wsi_hf.evaluation.summary import summary_lines
from wsi_hf.reports.cohort import evaluate_cohort


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder, or name on the Hub")
    parser.add_argument("--cohort", required=True, help="CAMELYON16 folder, or a CSV table")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    # a process that is done waits for the others, however long their slides take
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
    metrics = evaluate_cohort(
        AutoModelForSemanticSegmentation.from_pretrained(arguments.model).to(state.device),
        wsi_hf.load_cohort(arguments.cohort).filter(lambda row: row["split"] == "test"),
        arguments.out,
        AutoImageProcessor.from_pretrained(arguments.model),
        state=state,
    )
    state.wait_for_everyone()
    state.destroy_process_group()  # its threads may abort a process that exits with them
    if state.is_main_process:
        print("\n".join(summary_lines(metrics)))
        print(arguments.out / "report.html")


if __name__ == "__main__":
    main()
