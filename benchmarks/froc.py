"""How long the evaluation takes at CAMELYON16's size: FROC and ROC with their intervals, detections, pixel figures.

    python benchmarks/froc.py                  # half a minute on one core
    python benchmarks/froc.py --resamples 200  # a quick look

130 slides, 50 of them malignant with 400 lesions in all, masks of 7000 x 3000 pixels, 100,000 detections. The CPU
column leaves out what other programs took meanwhile.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from wsi_hf.evaluation.froc.detections import find_detections
from wsi_hf.evaluation.froc.interval import froc_interval
from wsi_hf.evaluation.froc.scoring import froc
from wsi_hf.evaluation.pixel import PixelScores
from wsi_hf.evaluation.roc import roc_auc

N_SLIDES, N_MALIGNANT, LESIONS_EACH, N_DETECTIONS = 130, 50, 8, 100_000
MASK_SHAPE = (7000, 3000)


def mask_with_lesions(rng: np.random.Generator) -> np.ndarray:
    """Draw discs of 0.3 to 8 mm, one to a field of a 2 x 4 grid."""
    mask = np.zeros(MASK_SHAPE, np.uint8)
    fields = [(row, column) for row in range(4) for column in range(2)][:LESIONS_EACH]
    for row, column in fields:
        radius = int(np.exp(rng.uniform(np.log(20), np.log(500))))
        y, x = 1750 * row + 875, 1500 * column + 750
        dy, dx = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        mask[y - radius : y + radius + 1, x - radius : x + radius + 1] |= dy**2 + dx**2 <= radius**2
    return mask


def timed(name: str, work: Callable[[], object], goal: str = "") -> object:
    start, cpu_start = time.perf_counter(), time.process_time()
    outcome = work()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    print(f"| {name} | {wall:.2f} s | {cpu:.2f} s | {goal} |", flush=True)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resamples", type=int, default=2000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    names = [f"test_{i:03d}" for i in range(1, N_SLIDES + 1)]
    masks = {name: mask_with_lesions(rng) if i < N_MALIGNANT else None for i, name in enumerate(names)}
    each = N_DETECTIONS // N_SLIDES + 1
    height, width = MASK_SHAPE
    places = rng.uniform((0, 0, 0), (1, width * 32, height * 32), (N_SLIDES, each, 3))
    detections = dict(zip(names, places, strict=True))

    print("| work | wall | CPU | goal |\n|---|---|---|---|")
    result = timed(f"FROC, {N_SLIDES} slides, {N_SLIDES * each} detections", lambda: froc(masks, detections), "< 5 s")
    timed(f"FROC interval, {args.resamples} resamples", lambda: froc_interval(result, args.resamples), "< 30 s")
    labels = np.arange(N_SLIDES) < N_MALIGNANT
    scores = rng.normal(labels, 1)
    timed(f"ROC with both intervals, {args.resamples} resamples", lambda: roc_auc(labels, scores, args.resamples))
    probabilities = rng.random((20_000, 10_000), np.float32) ** 4
    timed("detections of a map of 200 Mpx", lambda: find_detections(probabilities, 4.1, 1.0))
    truth = np.zeros(probabilities.shape, bool)
    truth[5000:8000, 2000:6000] = True
    pixels = PixelScores()
    timed("pixel histogram of a map of 200 Mpx", lambda: pixels.add("test_001", probabilities, truth))
    for i in range(2, 130):
        part = slice(0, 256), slice(0, 256)
        pixels.add(f"test_{i:03d}", probabilities[part], truth[5000 - i :, 2000 - i :][part] & (i < 50))
    timed(f"pixel figures of 129 slides, {args.resamples} resamples", lambda: pixels.result(args.resamples))
    print(f"\nFROC {result.average:.3f} over {result.n_lesions} lesions of {result.n_slides} slides")


if __name__ == "__main__":
    main()
