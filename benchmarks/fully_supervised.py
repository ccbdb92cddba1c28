"""examples/train_camelyon16.py with the tumour outlined: pixel cross-entropy on patches whose every pixel is known.

    python benchmarks/fully_supervised.py [the example's arguments]

What months of outlining would buy, for benchmarks/ablation.py: the same network, optimiser, steps and augmentation,
patches of malignant slides centred on outlined tumour, those of benign slides anywhere on the tissue.
"""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import oracle_placement
import train_camelyon16

from wsi_hf import WsiTrainer
from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.models.slide_head import slide_logits
from wsi_hf.slides.annotations import rasterize, read_asap
from wsi_hf.slides.slide import Slide


class SupervisedTrainer(WsiTrainer):
    """Learns from outlines, pixel by pixel."""

    annotations: dict[str, str | None]  # of a slide's path

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        truth = torch.stack([self._truth(*where) for where in zip(inputs["slide"], inputs["center_l0"], strict=True)])
        truth = truth.to(inputs["pixel_values"].device)
        if model.training:  # outlines move with the images
            truth = self.run.augment.move(truth[:, None].float(), self.run.seed_of(inputs))[:, 0].round().long()
        logits = model(pixel_values=self.pixel_values(model, inputs)).logits
        loss = F.cross_entropy(logits.float(), truth)
        if model.training:
            self.run.draws.see(inputs, slide_logits(logits.detach(), self.eta).softmax(1)[:, 1])
        return (loss, {"logits": logits}) if return_outputs else loss

    def _truth(self, slide: Tensor, center_l0: Tensor) -> Tensor:
        """Which pixels of a patch are tumour, int64 (H, W)."""
        mask, mpp = self._mask(int(slide))
        size, pad = self.args.patch_size, self.args.patch_size
        x, y = (int(np.floor(float(c) * mpp / self.image_processor.mpp + 1e-6)) - size // 2 + pad for c in center_l0)
        return torch.from_numpy(mask[y : y + size, x : x + size].astype(np.int64))

    @lru_cache(maxsize=512)  # noqa: B019 - as long as the training
    def _mask(self, index: int) -> tuple[np.ndarray, float]:
        """The tumour at the model's mpp, with a patch's width of nothing around, and the slide's mpp."""
        info = self.mapping_settings.slides[index]
        slide = Slide(info.path, mpp=info.mpp)
        width, height = slide.size_px(self.image_processor.mpp)
        annotation = self.annotations[info.path]
        if annotation:
            mask = rasterize(read_asap(annotation), (height, width), self.image_processor.mpp / slide.mpp)
        else:
            mask = np.zeros((height, width), bool)
        return np.pad(mask, self.args.patch_size), slide.mpp


def main() -> None:
    example, _ = train_camelyon16.parse_arguments()
    if example.cohort is None:
        sys.exit("say which slides: --cohort FOLDER")
    SupervisedTrainer.annotations = {str(row["path"]): row["annotation"] for row in load_cohort(example.cohort)}
    train_camelyon16.WsiTrainer = SupervisedTrainer
    oracle_placement.main()


if __name__ == "__main__":
    main()
