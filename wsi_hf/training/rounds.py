"""Where a round of training ends: weights and maps change hands, lost slides and collapse are noticed."""

import logging
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import TrainerCallback

from wsi_hf.mapping.first_maps import prepare
from wsi_hf.mapping.mapper import HandOver, save_architecture
from wsi_hf.training.checkpoints.folder import begin_folder
from wsi_hf.training.run import Run

logger = logging.getLogger(__name__)


class RoundCallback(TrainerCallback):
    """Hands weights and maps over where a round ends.

    Args:
        checkpoint: that the run goes on from, or None.
    """

    def __init__(self, run: Run, checkpoint: Path | None):
        self.run, self.checkpoint = run, checkpoint

    def on_train_begin(self, args, state, control, model, processing_class, **kwargs):  # type: ignore[override]
        run, store = self.run, self.run.settings.store
        if args.device.type == "cpu":
            torch.set_num_threads(args.threads)
        if args.process_index == 0:
            begin_folder(run.settings, self.checkpoint)
            save_architecture(model, processing_class, run.settings.folder)
            prepare(run.settings, args.device)
        PartialState().wait_for_everyone()
        run.patches.forget_maps()
        run.lost_slides.reasons = store.newest().lost
        if args.process_index == 0:
            run.lost_slides.write()
        if args.dynamic_sampling and state.global_step < state.max_steps:
            round_index = state.global_step // args.steps_per_round
            # a mapping beside the training may have been behind it when the checkpoint was saved
            first_round = min(round_index, store.newest_round() + 1)
            run.mapping.start(first_round)
            run.mapping.hand_over(round_index, model, HandOver())
        run.pace.begin_round()

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.run.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args, state, control, model, **kwargs):  # type: ignore[override]
        ended, left = divmod(state.global_step, args.steps_per_round)
        if left or state.global_step >= state.max_steps:
            return
        run, store = self.run, self.run.settings.store
        round_s = run.pace.end_round()
        run.lost_slides.settle(store, ended)
        if (advice := run.collapse.end_round(args.beta_at(state.global_step)[1])) and args.process_index == 0:
            logger.warning("step %d: %s", state.global_step, advice)
        if args.dynamic_sampling:
            run.mapping.hand_over(ended, model, HandOver(round_s))
        if run.lost_slides.too_many:
            control.should_save = control.should_training_stop = True
        if args.process_index == 0:
            run.lost_slides.write()
            store.forget_before(run.patches.filled_in(ended * run.items_per_round) - 1)
        run.pace.begin_round()
