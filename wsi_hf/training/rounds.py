"""Where a round of training ends: weights and maps change hands, lost slides and collapse are noticed."""

import logging
from typing import TYPE_CHECKING

import torch
from transformers import TrainerCallback

from wsi_hf.mapping.first_maps import prepare
from wsi_hf.mapping.mapper import HandOver, save_architecture
from wsi_hf.training.checkpoints import begin_folder, check_weights

if TYPE_CHECKING:
    from wsi_hf.training.trainer import WsiTrainer

logger = logging.getLogger(__name__)


class RoundCallback(TrainerCallback):
    """Hands weights and maps over where a round ends."""

    def __init__(self, trainer: "WsiTrainer"):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        trainer = self.trainer
        if args.device.type == "cpu":
            torch.set_num_threads(args.threads)
        if args.process_index == 0:
            trainer.lost_slides.pending = begin_folder(trainer.mapping_settings, trainer.resume_folder)
            save_architecture(trainer.model, trainer.image_processor, trainer.mapping_settings.folder)
            prepare(trainer.mapping_settings)
        trainer.accelerator.wait_for_everyone()
        trainer.patches.forget_maps()
        trainer.lost_slides.reasons = trainer.mapping_settings.store.newest().lost
        if args.process_index == 0:
            trainer.lost_slides.write()
        if args.dynamic_sampling and state.global_step < state.max_steps:
            round_index = state.global_step // args.steps_per_round
            # a mapping beside the training may have been behind it when the checkpoint was saved
            first_round = min(round_index, trainer.mapping_settings.store.finished()[-1] + 1)
            if args.process_index == 0:
                check_weights(trainer.mapping_settings.store, first_round, round_index)
            trainer.mapping_process.start(first_round)
            trainer.mapping_process.hand_over(round_index, trainer.model, HandOver())
        trainer.pace.begin_round()

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.trainer.run_sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args, state, control, **kwargs):
        ended, left = divmod(state.global_step, args.steps_per_round)
        if not left and state.global_step < state.max_steps:
            self._end_round(args, control, ended)

    def _end_round(self, args, control, ended: int) -> None:
        trainer = self.trainer
        round_s = trainer.pace.end_round()
        unreadable = trainer.lost_slides.settle(trainer.mapping_settings.store)
        if (advice := trainer.collapse.end_round(trainer.beta[1])) and args.process_index == 0:
            logger.warning("step %d: %s", ended * args.steps_per_round, advice)
        if args.dynamic_sampling:
            trainer.mapping_process.hand_over(ended, trainer.model, HandOver(round_s, unreadable))
        if trainer.lost_slides.too_many:
            control.should_save = control.should_training_stop = True
        if args.process_index == 0:
            trainer.lost_slides.write()
        trainer.pace.begin_round()
