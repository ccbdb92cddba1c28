"""WsiTrainer: transformers' Trainer with the beta-divergence, the dynamic patches and slide-level evaluation."""

import csv
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from wsi_hf.inference.network import PixelNetwork, check_model, default_image_processor
from wsi_hf.inference.streaming import stream_tiles
from wsi_hf.mapping.first_maps import prepare
from wsi_hf.mapping.mapper import FIRST_SLIDES, MappingSettings, default_file
from wsi_hf.mapping.process import FolderLock, MappingProcess
from wsi_hf.models.class_names import benign_first
from wsi_hf.models.divergence import beta_divergence
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.models.modeling_wsi_unet import WsiPreTrainedModel
from wsi_hf.models.slide_head import slide_logits
from wsi_hf.sampling.augmentation import PatchAugmentation
from wsi_hf.sampling.map_store import MappingError
from wsi_hf.sampling.patch_dataset import DynamicPatchDataset, RunSampler, TrainingSlide
from wsi_hf.slides.slide import Slide
from wsi_hf.training.arguments import WsiTrainingArguments
from wsi_hf.training.checkpoints import begin_folder, keep_maps, newest_checkpoint
from wsi_hf.training.collapse import CollapseWatch
from wsi_hf.training.interruption import Interruption
from wsi_hf.training.lost_slides import LostSlides
from wsi_hf.training.pace import Pace, mapping_facts
from wsi_hf.training.publishing import PublishingTrainer
from wsi_hf.training.rounds import RoundCallback

logger = logging.getLogger(__name__)


class WsiTrainer(PublishingTrainer):
    """Trains a segmentation model from slide labels.

    Args:
        model: gives pixel logits of two classes, benign and malignant: this package's U-Net, or any other network
            of `AutoModelForSemanticSegmentation` with two labels.
        train_dataset, eval_dataset: slides, with columns slide_id, path, label (0, 1) and, for files without one, mpp.
            Other columns, annotations among them, are not read.
        processing_class: the image processor; it says at what resolution the model works. Other networks than this
            package's U-Net need one.
    """

    loss_is_scaled_for_ga = False  # the loss is a mean over the batch
    args: WsiTrainingArguments
    model: PreTrainedModel

    def __init__(
        self,
        model: PreTrainedModel,
        args: WsiTrainingArguments,
        train_dataset: datasets.Dataset,
        eval_dataset: datasets.Dataset | None = None,
        processing_class: WsiImageProcessor | None = None,
        **kwargs,
    ):
        check_model(model)
        self.image_processor = processing_class or default_image_processor(model)
        self.eta = choose_eta(model, args)
        self.items_per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.items_per_round = self.items_per_step * args.steps_per_round
        self.mapping_settings = self._settings(
            args, training_slides(train_dataset), Path(str(args.output_dir)) / "_mapping"
        )
        self.mapping_process = MappingProcess(
            self.mapping_settings,
            args.mapping,
            args.mapping_device or _device_name(args),
            args.process_index,
            args.world_size,
            args.mapping_ranks,
        )
        self.lost_slides = LostSlides(
            self.mapping_settings.slides, args.max_lost_slides, Path(str(args.output_dir)) / "lost_slides.json"
        )
        self.pace = Pace()
        self.collapse = CollapseWatch(args.beta_at(args.steps_per_round)[1])
        self.augment = PatchAugmentation(
            args.augment_rotate, args.augment_mirror, args.augment_elastic_px, args.augment_stain, args.augment_colour
        )
        self.resume_folder: Path | None = None
        self._seen: list[dict[str, Tensor]] = []  # the batches since the last log
        self.patches = self._patches(args, self.mapping_settings, dynamic=args.dynamic_sampling)
        super().__init__(
            model,
            args,
            train_dataset,
            train_dataset=self.patches,
            data_collator=default_collate,  # transformers' own drops strings
            eval_dataset=eval_dataset,
            processing_class=self.image_processor,
            **kwargs,
        )
        self.add_callback(RoundCallback(self))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The beta-divergence between the slides' labels and the slide head's verdict on their patches."""
        pixel_values = self.pixel_values(model, inputs)
        logits = model(pixel_values=pixel_values).logits  # (B, 2, H, W) or smaller
        if logits.shape[2:] != pixel_values.shape[2:]:
            logits = F.interpolate(logits, size=pixel_values.shape[2:], mode="bilinear", align_corners=False)
        pooled = slide_logits(benign_first(logits, self.model.config), self.eta)  # (B, 2)
        loss = beta_divergence(pooled, inputs["labels"], self.beta).mean()
        if model.training:
            self._record(inputs, pooled)
        return (loss, {"logits": logits, "slide_logits": pooled}) if return_outputs else loss

    def pixel_values(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """What the network sees of a batch: augmented while training, normalised, (B, 3, H, W), channels last."""
        images = inputs["pixel_values"].permute(0, 3, 1, 2) / 255
        if model.training:
            images = self.augment(images, seed=self.args.seed * 1_000_003 + int(inputs["index"][0]))
        return self.image_processor.normalize_colours(images).contiguous(memory_format=torch.channels_last)

    @property
    def beta(self) -> tuple[float, float]:
        """(beta_0, beta_1) at this step."""
        return self.args.beta_at(self.state.global_step)

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        """Train. Ctrl-C or SIGTERM finishes the step, saves a checkpoint and raises KeyboardInterrupt.

        Raises:
            MappingError: the mapping process died twice; a checkpoint was saved.
            LostSlidesError: more slides than `max_lost_slides` cannot be read; a checkpoint was saved.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = newest_checkpoint(str(self.args.output_dir))
        self.resume_folder = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        lock = FolderLock(Path(self.mapping_settings.folder)) if self.args.process_index == 0 else None
        interruption = Interruption()
        self.add_callback(interruption)
        try:
            with interruption:
                result = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except MappingError:
            if self.resume_folder and self.resume_folder.name == f"checkpoint-{self.state.global_step}":
                raise  # nothing is new, and saving over the only good checkpoint may fail as the mapping did
            try:
                self._save_checkpoint(self.model, trial=None, unreadable=self.lost_slides.pending)
            except (OSError, RuntimeError) as error:  # a full disk, most likely what ended the mapping too
                logger.error("no checkpoint could be saved: %s", error)
            raise
        finally:
            self.mapping_process.close()
            self.remove_callback(interruption)
            if lock:
                lock.release()
        if interruption.asked:
            raise KeyboardInterrupt(f"stopped at step {self.state.global_step}; a checkpoint was saved")
        if self.lost_slides.too_many:
            raise self.lost_slides.error()
        return result

    def _run_epoch(self, **kwargs):  # type: ignore[override]
        """None where a resumed run is at its end already: transformers 5.23 would train a step beyond it."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**kwargs)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        started = time.monotonic()
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.pace.fetched(time.monotonic() - started, [text for batch in samples for text in batch["report"]])
        return samples, items

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Segment every slide of the evaluation set, shared out over the ranks.

        Returns:
            slide_auc: ROC AUC of the slides' largest pixel margin.
            loss: mean divergence on patches drawn uniformly over the tissue.
            slides: how many.
        """
        started = time.monotonic()
        settings = self._evaluation_settings(eval_dataset, metric_key_prefix)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._measure(settings).items()}
        self.pace.pause(time.monotonic() - started)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the patches since the last log looked like to the model, and write down where they lay."""
        if self._seen and "loss" in logs:
            seen = {name: torch.cat([batch[name] for batch in self._seen]).cpu() for name in self._seen[0]}
            self._seen.clear()
            malignant = seen["labels"] == 1
            logs["q_benign"] = float(seen["q"][~malignant].mean())
            logs["q_malignant"] = float(seen["q"][malignant].mean())
            logs["beta_1"] = round(self.beta[1], 3)
            logs["mapping_s"] = round(self.mapping_process.inline_s, 1)
            logs["map_wait_s"] = round(self.pace.logged(), 2)
            settings, steps = self.mapping_settings, (seen["index"] // self.items_per_step).tolist()
            logs |= mapping_facts(settings.store, settings.steps_per_round, steps, seen["map_round"].tolist())
            self._write_draws(seen)
        super().log(logs, start_time)

    def progress(self) -> dict[str, Any]:
        return super().progress() | {"lost_slides": len(self.lost_slides.reasons)}

    def _record(self, inputs: dict[str, Any], pooled: Tensor) -> None:
        self.lost_slides.see(inputs["report"])
        names = ("index", "slide", "labels", "center_l0", "map_round")
        q = pooled.detach().softmax(1)[:, 1]
        self._seen.append({name: inputs[name] for name in names} | {"q": q})
        self.collapse.see(inputs["labels"], q)

    def _write_draws(self, seen: dict[str, Tensor]) -> None:
        """Append to draws.<rank>.csv: step, slide_id, label, x_l0, y_l0, round of the map, q."""
        columns = [seen[name].tolist() for name in ("index", "slide", "labels", "center_l0", "map_round", "q")]
        path = Path(self.mapping_settings.folder) / f"draws.{self.args.process_index}.csv"
        with open(path, "a", newline="") as file:
            rows = csv.writer(file)
            for i, slide, label, (x, y), map_round, q in zip(*columns, strict=True):
                slide_id = self.mapping_settings.slides[slide].slide_id
                rows.writerow([i // self.items_per_step, slide_id, label, x, y, map_round, q])

    def _settings(self, args: WsiTrainingArguments, slides: list[TrainingSlide], folder: Path) -> MappingSettings:
        return MappingSettings(
            folder=str(folder), slides=slides, mpp=float(self.image_processor.mpp), alpha=args.alpha,
            map_stride=args.map_stride, tile_size=args.mapping_tile_size, slides_per_round=args.slides_per_round,
            max_epochs_unmapped=args.max_epochs_unmapped, steps_per_round=args.steps_per_round,
            lag=-(-2 * args.shuffle_buffer // self.items_per_round), tissue=args.tissue, seed=args.seed,
            threads=args.threads, error_mass=args.error_mass,
            discovery_rounds=-(-args.discovery_steps // args.steps_per_round) if args.dynamic_sampling else 0,
        )  # fmt: skip

    def _patches(self, args: WsiTrainingArguments, settings: MappingSettings, dynamic: bool) -> DynamicPatchDataset:
        pairs = (settings.slides_per_round or FIRST_SLIDES) // 2
        malignant = sum(slide.label for slide in settings.slides)
        epoch = -(-malignant // min(pairs, malignant)) * self.items_per_round
        return DynamicPatchDataset(
            settings.slides, settings.store, length=epoch, patch_size=args.patch_size, mpp=settings.mpp,
            items_per_round=self.items_per_round, shuffle_buffer=args.shuffle_buffer, seed=args.seed,
            draw_from=args.draw_from, dynamic=dynamic, error_mass=args.error_mass,
        )  # fmt: skip

    def _evaluation_settings(self, eval_dataset: datasets.Dataset | None, name: str) -> MappingSettings:
        """Those of the slides to be evaluated, whose tissue is found once and kept under `name`."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("evaluate() needs an eval_dataset of slides")
        folder = Path(self.mapping_settings.folder) / name
        settings = dataclasses.replace(self._settings(self.args, training_slides(dataset), folder), discovery_rounds=0)
        if self.args.process_index == 0:
            begin_folder(settings, checkpoint=None)
            prepare(settings)
        self.accelerator.wait_for_everyone()
        return settings

    def _measure(self, settings: MappingSettings) -> dict[str, float]:
        labels, margins = zip(*self._margins(settings), strict=True)
        both = len(set(labels)) == 2
        return {
            "slide_auc": float(roc_auc_score(labels, margins)) if both else float("nan"),
            "loss": self._uniform_loss(settings) if both else float("nan"),
            "slides": len(labels),
        }

    def _margins(self, settings: MappingSettings) -> list[tuple[int, float]]:
        """(label, largest l1 - l0) of every slide, gathered from all ranks."""
        network = PixelNetwork(self.model, self.image_processor)
        rank, ranks = self.args.process_index, self.args.world_size
        mine = tqdm(settings.slides[rank::ranks], desc="Evaluating", unit="slide", leave=False, disable=rank > 0)
        return gather_object([(info.label, self._margin(network, settings, info)) for info in mine])

    def _margin(self, network: PixelNetwork, settings: MappingSettings, info: TrainingSlide) -> float:
        tissue = settings.store.load_map(default_file(info)).tissue()
        tiles = stream_tiles(network, Slide(info.path, mpp=info.mpp), tissue=tissue, tile_size=settings.tile_size)
        return max(float((tile.logits[1] - tile.logits[0])[tile.tissue].max()) for tile in tiles)

    @torch.no_grad()
    def _uniform_loss(self, settings: MappingSettings) -> float:
        """Mean divergence on the same few patches of the slides at every call."""
        patches = self._patches(self.args, settings, dynamic=False)
        rank, ranks = self.args.process_index, self.args.world_size
        mine = range(rank, len(settings.slides) * self.args.eval_patches_per_slide, ranks)
        batches = DataLoader(Subset(patches, mine), self.args.per_device_eval_batch_size)
        self.model.eval()
        losses = [
            (float(self.compute_loss(self.model, self._prepare_inputs(batch))), len(batch["labels"]))
            for batch in batches
        ]
        losses = gather_object(losses)
        return sum(loss * n for loss, n in losses) / sum(n for _, n in losses)

    def _get_train_sampler(self, train_dataset=None) -> RunSampler:
        self.run_sampler = RunSampler(self.patches.length)
        return self.run_sampler

    def _save_checkpoint(self, model, trial, unreadable: dict[int, str] | None = None) -> None:
        unreadable = self.lost_slides.gather() if unreadable is None else unreadable
        if self.args.process_index == 0:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            keep_maps(self.mapping_settings, self.state.global_step // self.args.steps_per_round, folder, unreadable)
        super()._save_checkpoint(model, trial)  # ends by deleting older checkpoints


def training_slides(dataset: datasets.Dataset) -> list[TrainingSlide]:
    """The rows of a cohort as training sees them: no annotations.

    Raises:
        ValueError: a column is missing, or there is no slide.
    """
    missing = {"slide_id", "path", "label"} - set(dataset.column_names)
    if missing:
        raise ValueError(
            f"a data set of slides has the columns slide_id, path and label; {', '.join(missing)} is missing"
        )
    if not len(dataset):
        raise ValueError("the data set holds no slides")
    mpp = dataset["mpp"] if "mpp" in dataset.column_names else [None] * len(dataset)
    rows = zip(dataset["slide_id"], dataset["path"], dataset["label"], mpp, strict=True)
    slides = [TrainingSlide(*row) for row in rows]
    if len({slide.slide_id for slide in slides}) < len(slides):
        raise ValueError("two slides share a slide_id")
    return slides


def choose_eta(model: PreTrainedModel, args: WsiTrainingArguments) -> float:
    """That of the arguments, else of the model's configuration, else the paper's 50. A configuration that has one keeps
    what was trained with.
    """
    if not isinstance(model, WsiPreTrainedModel):
        return 50.0 if args.eta is None else args.eta
    if args.eta is not None:
        model.config.eta = args.eta
    return model.config.eta


def _device_name(args: WsiTrainingArguments) -> str | None:
    """An inline mapping runs where the training does; a child chooses for itself unless the training is on the CPU."""
    return str(args.device) if args.mapping == "inline" or args.device.type == "cpu" else None
