"""Segment a whole slide and write everything that a viewer opens; a second or two a megapixel on a CPU core.

    python examples/segment_slide.py --model outputs/demo SLIDE.svs --out segmented
    python examples/segment_slide.py --model outputs/demo SLIDE.tif --mpp 0.243 --out segmented   # file without mpp

Drag `probabilities.ome.tif` or `lesions.geojson` onto the slide in QuPath. The command `wsi-hf segment` does the same
for many slides, and goes on where it was interrupted.

Unlike the paper, which maps slides whole, only tissue is looked at; `--whole-slide` turns that off.
"""

import argparse
import logging
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from wsi_hf import segment_slide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", required=True, help="a folder, or a name on the Hub")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--mpp", type=float, help="um per level-0 pixel, if the file does not say")
    parser.add_argument("--whole-slide", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="half the time on CPUs and GPUs that know bfloat16")
    options = parser.parse_args()

    result = segment_slide(
        AutoModelForSemanticSegmentation.from_pretrained(options.model),
        options.slide,
        mpp=options.mpp,
        tissue=None if options.whole_slide else "auto",
        device="cuda" if torch.cuda.is_available() else "cpu",
        dtype=torch.bfloat16 if options.bf16 else torch.float32,
        image_processor=AutoImageProcessor.from_pretrained(options.model),
        progress=True,
    )
    folder = result.save(options.out)

    print(f"{result.slide_id}: {result.label}, largest pixel probability {result.score:.3f}")
    print(f"{len(result.lesions)} lesions; tissue {result.tissue_area_um2 / 1e6:.2f} mm2; {result.seconds:.1f} s")
    for damage in result.damages:
        print(f"not analysed: {damage.reason}")
    # the map itself is a lazily read array: result.probabilities[rows, columns]
    print(f"see {folder / 'overlay.png'}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
