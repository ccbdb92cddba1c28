"""A Trainer whose runs are not lost, mixed up or left behind: it stops with a checkpoint, and goes on from its own."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import datasets
import torch
from accelerate.utils import broadcast_object_list
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import rotate_checkpoints

from wsi_hf.sampling.map_store import MappingError
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.slides.slide import SlideError
from wsi_hf.training.arguments import WsiTrainingArguments
from wsi_hf.training.checkpoints.folder import keep_maps
from wsi_hf.training.checkpoints.lock import FolderLock
from wsi_hf.training.checkpoints.manifest import RunFacts, write_manifest
from wsi_hf.training.checkpoints.resuming import begin_anew, check_own, check_whole, newest_checkpoint, write_run
from wsi_hf.training.checkpoints.weights import load_whole
from wsi_hf.training.interruption import Abandoned, Interruption
from wsi_hf.training.publishing import PublishingTrainer
from wsi_hf.training.rounds import RoundCallback
from wsi_hf.training.run import Run, items_per_step, mapping_folder

logger = logging.getLogger(__name__)

EVALUATION_DUE = "evaluation_due"
"""A file in a checkpoint that was saved where the step's evaluation was left out."""

Result = TypeVar("Result")


class ResumableTrainer(PublishingTrainer):
    """Keeps a run together; what is trained is the inheritor's."""

    args: WsiTrainingArguments
    run: Run  # of the training that has begun last
    slides: list[TrainingSlide]
    eta: float

    resume_folder: Path | None = None
    run_id: str = ""
    interruption: Interruption | None = None
    _rounds: RoundCallback | None = None
    _lock: FolderLock | None = None

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        """Train. Ctrl-C or SIGTERM finishes the step, saves a checkpoint and raises KeyboardInterrupt.

        Raises:
            MappingError, SlideError: the mapping process died twice, or no slide can be read; a checkpoint was saved.
            LostSlidesError: more slides than `max_lost_slides` cannot be read; a checkpoint was saved.
            ValueError: the folder holds an earlier run, or a checkpoint that cannot be gone on from.
        """
        self.interruption = Interruption()
        self.add_callback(self.interruption)
        try:
            with self.interruption:
                self.resume_folder, self.run_id = on_first_rank(lambda: self._choose(resume_from_checkpoint))
                checkpoint = str(self.resume_folder) if self.resume_folder else None
                result = super().train(checkpoint, trial, ignore_keys_for_eval)
                if self.interruption.asked and not self._checkpoint.exists():
                    self._save_checkpoint(self.model, trial)
        except Abandoned:
            self._save_alone()
            raise KeyboardInterrupt(f"stopped at step {self.state.global_step}; a checkpoint was saved") from None
        except (MappingError, SlideError):
            self._save_alone()
            raise
        finally:
            if self._rounds:
                self.run.mapping.close()
            self.remove_callback(self.interruption)
            if self._lock:
                self._lock.release()
        if self.interruption.asked:
            raise KeyboardInterrupt(f"stopped at step {self.state.global_step}; a checkpoint was saved")
        if self.run.lost_slides.too_many:
            raise self.run.lost_slides.error()
        return result

    def _choose(self, resume: str | bool | None) -> tuple[Path | None, str]:
        """What to go on from, and the id of the run; the folder is this run's from here on."""
        folder = Path(str(self.args.output_dir))
        self._lock = FolderLock(mapping_folder(self.args))
        if not resume:
            return None, begin_anew(folder, self.args.overwrite_output_dir)
        checkpoint = newest_checkpoint(folder) if resume is True else check_whole(Path(resume))
        batch_size = self._train_batch_size
        if self.args.auto_find_batch_size:  # transformers goes on with the size that was found
            batch_size = json.loads((checkpoint / TRAINER_STATE_NAME).read_text())["train_batch_size"]
        run = check_own(checkpoint, self._facts("", batch_size))
        write_run(folder, run)
        logger.info("Resuming from %s", checkpoint)
        return checkpoint, run

    def _facts(self, run: str, batch_size: int) -> RunFacts:
        held_out = self.eval_dataset["slide_id"] if isinstance(self.eval_dataset, datasets.Dataset) else []
        step = items_per_step(self.args, batch_size)
        mpp = float(self.processing_class.mpp)  # type: ignore[union-attr]
        return RunFacts.of(run, self.args, self.slides, list(held_out), step, eta=self.eta, mpp=mpp)

    def _run_epoch(self, **kwargs):  # type: ignore[override]
        """None where a resumed run is at its end already: transformers 5.23 would train a step beyond it."""
        if self._at_resumed_step() and (self._checkpoint / EVALUATION_DUE).exists():
            metrics = self._evaluate(kwargs["trial"], kwargs["ignore_keys_for_eval"])
            self._determine_best_metric(metrics=metrics, trial=kwargs["trial"])
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**kwargs)

    def _at_resumed_step(self) -> bool:
        return self.resume_folder is not None and self.resume_folder.name == self._checkpoint.name

    @property
    def _checkpoint(self) -> Path:
        return Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"

    def _save_checkpoint(self, model, trial, alone: bool = False) -> None:
        """Save, check what was saved, and only then delete older checkpoints.

        Args:
            alone: the other ranks may not come.
        """
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            if self.args.process_index == 0:
                keep_maps(self.run.settings.store, self._checkpoint, self.state.global_step * self.items_per_step)
                if self.interruption and self.interruption.evaluation_due:
                    (self._checkpoint / EVALUATION_DUE).touch()
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        if not alone:
            self.accelerator.wait_for_everyone()
        if self.args.process_index == 0:
            write_manifest(self._checkpoint, self._facts(self.run_id, self._train_batch_size))
            rotate_checkpoints(
                output_dir=str(self.args.output_dir), save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint, use_mtime=True,
            )  # fmt: skip

    def _save_alone(self) -> None:
        """Save between two steps what this rank has, if there is anything new and any space."""
        if self.args.process_index or not self._rounds or not self.state.global_step:
            return
        if self._at_resumed_step():
            return  # nothing is new, and saving over the only good checkpoint may fail as what led here did
        try:
            self._save_checkpoint(self.model, trial=None, alone=True)
        except (OSError, RuntimeError) as error:  # a full disk, most likely what ended the mapping too
            logger.error("no checkpoint could be saved: %s", error)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        load_whole(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        load_whole(self.model, Path(str(self.state.best_model_checkpoint)))


def on_first_rank(task: Callable[[], Result]) -> Result:
    """What the first rank's `task` returns or raises, on all ranks."""
    outcome: list = [None]
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        broadcast_object_list(outcome)
    else:
        try:
            outcome = [task()]
        except Exception as error:
            outcome = [error]
        broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]
