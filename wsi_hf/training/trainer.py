"""WsiTrainer: transformers' Trainer with the beta-divergence, the dynamic patches and slide-level evaluation."""

import dataclasses
import logging
import time
from contextlib import nullcontext
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate
from transformers import PreTrainedModel

from wsi_hf.inference.network import check_model, default_image_processor
from wsi_hf.mapping.first_maps import prepare
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.models.class_names import benign_first
from wsi_hf.models.divergence import beta_divergence, pixel_divergence
from wsi_hf.models.glass import glass_loss
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.models.slide_head import slide_logits
from wsi_hf.sampling.patch_dataset import RunSampler
from wsi_hf.training.arguments import WsiTrainingArguments
from wsi_hf.training.checkpoints.folder import begin_folder
from wsi_hf.training.checkpoints.resumable import ResumableTrainer, on_first_rank
from wsi_hf.training.rounds import RoundCallback
from wsi_hf.training.run import Run, choose_eta, mapping_folder, mapping_settings, patch_stream, training_slides
from wsi_hf.training.slide_evaluation import evaluated, mean_over_ranks, slide_auc
from wsi_hf.training.workers import in_own_groups

logger = logging.getLogger(__name__)

NOT_OURS = ("compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics", "model_init")


class WsiTrainer(ResumableTrainer):
    """Trains a segmentation model from slide labels.

    Args:
        model: gives pixel logits of two classes, benign and malignant: this package's U-Net, or any other network
            of `AutoModelForSemanticSegmentation` with two labels.
        train_dataset, eval_dataset: slides, with columns path, label (by name: benign, malignant) and, where wanted,
            slide_id, mpp and tissue, see `cohorts`. Other columns, annotations among them, are not read.
        processing_class: the image processor; it says at what resolution the model works. Other networks than this
            package's U-Net need one.
    """

    loss_is_scaled_for_ga = False  # the loss is a mean over the batch
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
        if ignored := sorted(name for name in NOT_OURS if kwargs.get(name) is not None):
            raise ValueError(f"{', '.join(ignored)}: loss and evaluation are those of slides; inherit from WsiTrainer")
        check_model(model)
        self.image_processor = processing_class or default_image_processor(model)
        self.eta = choose_eta(model, args)
        self.slides = training_slides(train_dataset)
        super().__init__(
            model,
            args,
            train_dataset,
            train_dataset=train_dataset,
            data_collator=default_collate,  # transformers' own drops the level-0 points
            eval_dataset=eval_dataset,
            processing_class=self.image_processor,
            **kwargs,
        )
        self.model_accepts_loss_kwargs = False  # what `loss_is_scaled_for_ga` says to transformers from 5.19 on

    def predict(self, *args, **kwargs):
        raise NotImplementedError("slides are segmented by pipeline('wsi-segmentation') or segment_slide")

    def hyperparameter_search(self, *args, **kwargs):
        raise NotImplementedError("a search starts a training of its own, in a folder of its own, for each trial")

    @property
    def mapping_settings(self) -> MappingSettings:
        """What the mapping process must know, as the arguments stand now."""
        return mapping_settings(self.args, self.slides, float(self.image_processor.mpp), mapping_folder(self.args))

    def get_train_dataloader(self) -> DataLoader:
        """Begin a run: all that depends on arguments and batch; one with a smaller batch after one too large."""
        if self._rounds:
            self.run.mapping.close()
            self.remove_callback(self._rounds)
        self.run = Run(self.args, self.slides, float(self.image_processor.mpp), self._train_batch_size)
        self.items_per_step = self.run.items_per_step
        self._rounds = RoundCallback(self.run, self.resume_folder)
        self.add_callback(self._rounds)
        self.train_dataset = self.run.patches
        loader = super().get_train_dataloader()
        if self.args.dataloader_num_workers:
            loader.multiprocessing_context = in_own_groups(self.args.dataloader_multiprocessing_context)
        return loader

    def _get_train_sampler(self, train_dataset=None) -> RunSampler:
        return self.run.sampler

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The beta-divergence between the slides' labels and the slide head's verdict on their patches."""
        pixel_values = self.pixel_values(model, inputs)
        logits = model(pixel_values=pixel_values).logits  # (B, 2, H, W) or smaller
        if logits.shape[2:] != pixel_values.shape[2:]:
            logits = F.interpolate(logits, size=pixel_values.shape[2:], mode="bilinear", align_corners=False)
        ordered = benign_first(logits, self.model.config)
        pooled = slide_logits(ordered, self.eta)  # (B, 2)
        loss = beta_divergence(pooled, inputs["labels"], self.beta).mean()
        if self.args.pixel_loss:
            loss = loss.lerp(pixel_divergence(ordered, inputs["labels"], self.beta).mean(), self.args.pixel_loss)
        if model.training:
            q = pooled.detach().softmax(1)[:, 1]
            self.run.draws.see(inputs, q)
            self.run.collapse.see(inputs["labels"], q)
            if self.args.glass_weight:
                loss = loss + self.args.glass_weight * glass_loss(ordered, self.run.glass(inputs))
        return (loss, {"logits": logits, "slide_logits": pooled}) if return_outputs else loss

    def pixel_values(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """What the network sees of a batch: augmented while training, normalised, (B, 3, H, W), channels last."""
        images = inputs["pixel_values"].permute(0, 3, 1, 2) / 255
        if model.training:
            images = self.run.augment(images, self.run.seed_of(inputs))
        return self.image_processor.normalize_colours(images).contiguous(memory_format=torch.channels_last)

    @property
    def beta(self) -> tuple[float, float]:
        """(beta_0, beta_1) at this step."""
        return self.args.beta_at(self.state.global_step)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        with self.interruption.abandonable() if self.interruption else nullcontext():
            self.run.await_maps(self.state.global_step)
            return super().get_batch_samples(epoch_iterator, num_batches, device)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Segment every slide of the evaluation set, shared out over the ranks.

        Returns:
            slide_auc: ROC AUC of the slides' largest pixel margin.
            loss: mean divergence on patches drawn uniformly over the tissue.
            slides: how many.
        """
        started = time.monotonic()
        with self.interruption.abandonable(evaluation=True) if self.interruption else nullcontext():
            measured = self._measure(self._evaluation_settings(eval_dataset, metric_key_prefix))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        if self._rounds:
            self.run.pace.pause(time.monotonic() - started)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the patches since the last log looked like to the model, and write down where they lay."""
        if "loss" in logs and (seen := self.run.draws.summary()):
            logs["beta_1"] = round(self.beta[1], 3)
            logs["mapping_s"] = round(self.run.mapping.inline_s, 1)
            logs["map_wait_s"] = round(self.run.pace.logged(), 2)
            logs |= seen
        super().log(logs, start_time)

    def progress(self) -> dict[str, Any]:
        lost = self.run.lost_slides.reasons if self._rounds else {}
        return super().progress() | {"lost_slides": len(lost)}

    def _evaluation_settings(self, eval_dataset: datasets.Dataset | None, name: str) -> MappingSettings:
        """Those of the slides to be evaluated, whose tissue is found once and kept under `name`."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("evaluate() needs an eval_dataset of slides")
        folder = mapping_folder(self.args) / name
        slides = on_first_rank(lambda: evaluated(training_slides(dataset)))
        settings = mapping_settings(self.args, slides, float(self.image_processor.mpp), folder)
        settings = dataclasses.replace(settings, discovery_rounds=0)
        if self.args.process_index == 0:
            begin_folder(settings, checkpoint=None)
            prepare(settings)
        self.accelerator.wait_for_everyone()
        return settings

    def _measure(self, settings: MappingSettings) -> dict[str, float]:
        both = len({slide.label for slide in settings.slides}) == 2
        auc = slide_auc(self.model, self.image_processor, settings, self.args.process_index, self.args.world_size)
        loss = self._uniform_loss(settings) if both else float("nan")
        return {"slide_auc": auc, "loss": loss, "slides": len(settings.slides)}

    @torch.no_grad()
    def _uniform_loss(self, settings: MappingSettings) -> float:
        """Mean divergence on the same few patches of the slides at every call."""
        patches = patch_stream(self.args, settings, 2, dynamic=False)
        mine = range(
            self.args.process_index, len(settings.slides) * self.args.eval_patches_per_slide, self.args.world_size
        )
        self.model.eval()
        return mean_over_ranks(
            [
                (self.compute_loss(self.model, self._prepare_inputs(batch)), len(batch["labels"]))
                for batch in DataLoader(Subset(patches, mine), self.args.per_device_eval_batch_size)
            ]
        )
