"""examples/train_camelyon16.py with patches placed by an oracle: malignant ones lie on outlined tumour, always.

    python benchmarks/oracle_placement.py [the example's arguments]

The ceiling of what placement can give, for benchmarks/ablation.py: the same network, loss and steps. It opens the
annotations, which training itself never does.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import train_camelyon16

import wsi_hf.mapping.first_maps
from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.inference.tissue import tissue_mask
from wsi_hf.slides.annotations import rasterize, read_asap
from wsi_hf.slides.slide import Slide

CELL_UM = 8


def main() -> None:
    example, _ = train_camelyon16.parse_arguments()
    if example.cohort is None:
        sys.exit("say which slides: --cohort FOLDER")
    annotations = {str(row["path"]): row["annotation"] for row in load_cohort(example.cohort)}

    def tumour_or_tissue(slide: Slide, tissue) -> np.ndarray | None:
        annotation = annotations.get(str(slide.path))
        if not annotation:
            return tissue_mask(slide, tissue)
        shape = tuple(-(-size // CELL_UM) for size in slide.size_px(1.0)[::-1])
        tumour = rasterize(read_asap(annotation), shape, CELL_UM / slide.mpp)
        return tumour if tumour.any() else tissue_mask(slide, tissue)

    wsi_hf.mapping.first_maps.tissue_mask = tumour_or_tissue  # where patches may lie
    sys.argv += ["--dynamic_sampling", "False"]
    train_camelyon16.main()


if __name__ == "__main__":
    main()
