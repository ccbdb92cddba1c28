"""A Trainer that leaves a publishable folder, and pushes nothing else to the Hub than what is to be published."""

import logging
import re
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import CommitInfo
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from wsi_hf.hub.card import model_card
from wsi_hf.hub.push import push_run
from wsi_hf.hub.run_files import CARD, OF_THESE_WEIGHTS, SUMMARY, read_json
from wsi_hf.models.class_names import name_classes
from wsi_hf.models.modeling_wsi_unet import WsiUNetForReconstruction
from wsi_hf.training.record import last_validation, write_record

logger = logging.getLogger(__name__)

UNSAFE_STRATEGIES = (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS)


class PublishingTrainer(Trainer):
    """Trainer whose saved folders tell how they came about, in JSON, and whose pushes hold no pickles and no maps.

    Args:
        cohort: the slides that are trained on; they are counted for the card.

    Raises:
        ValueError: `hub_strategy` would upload whole checkpoints.
    """

    model: PreTrainedModel
    hub_model_id: Any = None
    push_in_progress: Any
    items_per_step = 0  # patches behind one step of the optimiser, on all ranks together; set by the inheritor

    def __init__(self, model, args, cohort: datasets.Dataset, **kwargs):
        if args.push_to_hub and args.hub_strategy in UNSAFE_STRATEGIES:
            raise ValueError(
                f"hub_strategy={args.hub_strategy.value!r} would upload optimiser pickles and maps of your slides; use "
                "every_save or end"
            )
        self.cohort = cohort
        self._seconds, self._started = 0.0, 0.0
        self._resumed_from: int | None = None
        super().__init__(model, args, **kwargs)

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        self._started = time.monotonic()
        resumed = re.search(r"checkpoint-(\d+)/?$", str(resume_from_checkpoint or ""))
        self._resumed_from = int(resumed[1]) if resumed else None
        self._seconds = read_json(Path(str(resume_from_checkpoint)) / SUMMARY).get("seconds", 0.0) if resumed else 0.0
        self.model.config._commit_hash = None  # from here on it is no longer what was downloaded
        self.model.config.name_or_path = str(self.args.output_dir)
        self.model.config.calibration = None  # it was that of other weights
        name_classes(self.model.config)
        if self.args.should_save:
            for name in OF_THESE_WEIGHTS:  # which are about to change
                (Path(str(self.args.output_dir)) / name).unlink(missing_ok=True)
        try:
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        finally:
            self._seconds, self._started = self._elapsed(), 0.0

    def push_to_hub(  # type: ignore[override]
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: Any,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Save the model and push what `wsi-hf push` would: see `push_run`, also for license, dataset and the rest."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        return self._push(Path(str(self.args.output_dir)), commit_message, blocking, token, revision, **card)

    def create_model_card(self, **card: Any) -> None:  # type: ignore[override]
        """Write README.md: license, dataset and dataset_license as for `model_card`."""
        if self.is_world_process_zero():
            folder = Path(str(self.args.output_dir))
            model_card(folder, self.hub_model_id or folder.absolute().name, **card).save(folder / CARD)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """At a save, push the checkpoint's model; a push still under way goes first, and this one is left out."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if not self.args.hub_always_push and self.push_in_progress is not None and not self.push_in_progress.is_done():
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        try:
            job: Any = self._push(Path(checkpoint_folder), message, blocking=False)
        except (OSError, ValueError) as error:  # no reason to stop a training
            logger.warning("the checkpoint of step %d was not pushed: %s", self.state.global_step, error)
            return
        job.add_done_callback(_tell)
        jobs = self.push_in_progress.jobs if self.push_in_progress is not None else []
        self.push_in_progress = PushInProgress([*(old for old in jobs if not old.done()), job])  # type: ignore[arg-type]

    def _push(
        self, folder: Path, message: str | None, blocking: bool, token: str | None = None,
        revision: str | None = None, **card: Any,
    ) -> CommitInfo | Future[CommitInfo]:  # fmt: skip
        return push_run(
            folder,
            str(self.hub_model_id),
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
            commit_message=message or "End of training",
            blocking=blocking,
            **card,
        )

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = Path(str(output_dir or self.args.output_dir))
            labelled = not isinstance(self.model, WsiUNetForReconstruction)
            write_record(folder, self.args, self.cohort, self.eval_dataset, self.progress(), labelled)

    def progress(self) -> dict[str, Any]:
        """How far the training has got, for training_summary.json."""
        return {
            "steps": self.state.global_step,
            "patches": self.state.global_step * self.items_per_step,
            "seconds": round(self._elapsed(), 1),
            "resumed_from_step": self._resumed_from,
            "validation": last_validation(self.state.log_history),
        }

    def _elapsed(self) -> float:
        """Seconds of training, those before a resume counted in."""
        return self._seconds + (time.monotonic() - self._started if self._started else 0.0)


def _tell(job: Future[CommitInfo]) -> None:
    """A push in the background that failed is not passed over in silence."""
    if error := job.exception():
        logger.warning("a push during the training failed; the next one sends everything: %s", error)
