"""One training: what its arguments, its slides and its batch come to, computed when it begins."""

import dataclasses
import sys
import time
from pathlib import Path

import datasets
from torch import Tensor
from transformers import PreTrainedModel

from wsi_hf.cohorts.rows import as_cohort
from wsi_hf.mapping.mapper import FIRST_SLIDES, MappingSettings
from wsi_hf.mapping.process import MappingProcess
from wsi_hf.models.glass import find_glass
from wsi_hf.models.modeling_wsi_unet import WsiPreTrainedModel
from wsi_hf.sampling.augmentation import PatchAugmentation
from wsi_hf.sampling.patch_dataset import DynamicPatchDataset, RunSampler, TrainingSlide
from wsi_hf.training.arguments import WsiTrainingArguments
from wsi_hf.training.collapse import CollapseWatch
from wsi_hf.training.draws import DrawLog
from wsi_hf.training.lost_slides import LostSlides
from wsi_hf.training.pace import Pace


class Run:
    """All that lives as long as one training.

    Args:
        slides: that it trains on.
        mpp: the model's.
        batch_size: patches of a rank in one pass.
    """

    def __init__(self, args: WsiTrainingArguments, slides: list[TrainingSlide], mpp: float, batch_size: int):
        self.items_per_step = items_per_step(args, batch_size)
        self.items_per_round = self.items_per_step * args.steps_per_round
        self.settings = mapping_settings(args, slides, mpp, mapping_folder(args))
        if args.dynamic_sampling:
            self.settings.slide_sampler  # noqa: B018 - refuses now what it cannot promise
        self.patches = patch_stream(args, self.settings, self.items_per_round, args.dynamic_sampling, args.glass_share)
        self.items_ahead = batch_size * args.world_size
        self.items = args.max_steps * self.items_per_step if args.max_steps > 0 else sys.maxsize
        self.sampler = RunSampler(self.patches.length, self.items)
        device = args.mapping_device or _device_name(args)
        self.mapping = MappingProcess(self.settings, args.mapping, device, args.process_index, args.world_size)
        self.lost_slides = LostSlides(slides, args.max_lost_slides, Path(str(args.output_dir)) / "lost_slides.json")
        self.pace = Pace()
        self.collapse = CollapseWatch(args.beta_at(args.steps_per_round)[1])
        self.draws = DrawLog(self.settings, self.items_per_step, args.process_index)
        self.augment = PatchAugmentation(
            args.augment_rotate, args.augment_mirror, args.augment_elastic_px, args.augment_stain, args.augment_colour
        )

    def await_maps(self, step: int) -> None:
        """Wait for all maps that fetching the patches of this step takes, and note how long.

        accelerate fetches one batch ahead: the last step of a round waits for the maps of the next.
        """
        started = time.monotonic()
        ahead = (step + 1) * self.items_per_step + self.items_ahead
        self.patches.await_maps(min(ahead, self.items) - 1)
        self.pace.waited(time.monotonic() - started)

    def seed_of(self, inputs: dict[str, Tensor]) -> int:
        """The seed of a batch's augmentation: a function of the run's and of where the batch stands in the stream."""
        return self.settings.seed * 1_000_003 + int(inputs["index"][0])

    def glass(self, inputs: dict[str, Tensor]) -> Tensor:
        """Which pixels of a batch are glass, where the augmentation puts them, bool (B, 1, H, W)."""
        glass = find_glass(inputs["pixel_values"].permute(0, 3, 1, 2) / 255, self.settings.mpp)
        return self.augment.move(glass.float(), self.seed_of(inputs)) > 0.5


def items_per_step(args: WsiTrainingArguments, batch_size: int) -> int:
    """Patches behind one step of the optimiser, on all ranks together."""
    return batch_size * args.gradient_accumulation_steps * args.world_size


def mapping_folder(args: WsiTrainingArguments) -> Path:
    return Path(str(args.output_dir)) / "_mapping"


def mapping_settings(
    args: WsiTrainingArguments, slides: list[TrainingSlide], mpp: float, folder: Path
) -> MappingSettings:
    return MappingSettings(
        folder=str(folder), slides=slides, mpp=mpp, alpha=args.alpha, map_stride=args.map_stride,
        tile_size=args.mapping_tile_size, slides_per_round=args.slides_per_round,
        max_epochs_unmapped=args.max_epochs_unmapped, steps_per_round=args.steps_per_round,
        tissue=args.tissue, seed=args.seed, threads=args.threads, error_mass=args.error_mass,
        discovery_rounds=-(-args.discovery_steps // args.steps_per_round) if args.dynamic_sampling else 0,
        discovery=args.discovery, discovery_encoder=args.discovery_encoder or "",
        dtype=args.mapping_dtype or "float32", reading_threads=args.mapping_threads,
    )  # fmt: skip


def patch_stream(
    args: WsiTrainingArguments,
    settings: MappingSettings,
    items_per_round: int,
    dynamic: bool,
    glass_share: float = 0.0,
) -> DynamicPatchDataset:
    """The patches of these slides; an epoch of them maps every malignant slide once."""
    pairs = (settings.slides_per_round or FIRST_SLIDES) // 2
    malignant = sum(slide.label for slide in settings.slides)
    epoch = -(-malignant // min(pairs, malignant)) * items_per_round
    return DynamicPatchDataset(
        settings.slides, settings.store, length=epoch, patch_size=args.patch_size, mpp=settings.mpp,
        items_per_round=items_per_round, shuffle_buffer=args.shuffle_buffer, seed=args.seed,
        draw_from=args.draw_from, dynamic=dynamic, error_mass=args.error_mass, glass_share=glass_share,
    )  # fmt: skip


def training_slides(dataset: datasets.Dataset) -> list[TrainingSlide]:
    """The rows of a cohort, or of any data set of slides (`as_cohort`), as training sees them: no annotations."""
    names = [field.name for field in dataclasses.fields(TrainingSlide)]
    return [TrainingSlide(**{name: row[name] for name in names}) for row in as_cohort(dataset)]


def choose_eta(model: PreTrainedModel, args: WsiTrainingArguments) -> float:
    """That of the arguments, else of the model's configuration, else the paper's 50. A configuration that has one keeps
    what was trained with.
    """
    if not isinstance(model, WsiPreTrainedModel):
        return 50.0 if args.eta is None else args.eta
    model.config.beta_0, model.config.beta_1 = args.beta_0, args.beta_1
    if args.eta is not None:
        model.config.eta = args.eta
    return model.config.eta


def _device_name(args: WsiTrainingArguments) -> str | None:
    """An inline mapping runs where the training does; a child chooses for itself unless the training is on the CPU."""
    return str(args.device) if args.mapping == "inline" or args.device.type == "cpu" else None
