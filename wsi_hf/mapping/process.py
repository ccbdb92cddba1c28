"""The mapping process beside the training, in step with it: round t is mapped while round t is trained.

At the end of round t - 1 the trainer hands over its weights; the maps made from them are drawn from in round t + 1.
Whether a child process maps, other ranks, or the trainer itself between two rounds, changes nothing but the time it
takes.
"""

import time

import torch
from transformers import PreTrainedModel

from wsi_hf.mapping.child import MappingChild
from wsi_hf.mapping.joining import forget_dead, open_training
from wsi_hf.mapping.lease import Lease
from wsi_hf.mapping.mapper import HandOver, Mapper, MappingSettings, save_weights
from wsi_hf.mapping.ranks import MappersWatch


class MappingProcess:
    """The trainer's side of the mapping.

    Args:
        placement: "inline", the training ranks map between two rounds; "child", a process beside rank 0 maps; "ranks",
            further processes of the same launch do; "pool", whoever joins. Others may join any of them.
        device: where an inline mapping runs; for a child the value for its Accelerator, or None for its choice.
        rank, ranks: this trainer's number among all that train.
    """

    def __init__(self, settings: MappingSettings, placement: str, device: str | None, rank: int, ranks: int):
        self.settings, self.placement, self.device, self.rank, self.ranks = settings, placement, device, rank, ranks
        self.inline_s = 0.0
        self._mapper: Mapper | None = None
        self._next_round = 0  # of an inline mapping
        self._lease: Lease | None = None
        self.child: MappingChild | None = None
        self._watch: MappersWatch | None = None
        if placement == "child" and rank == 0:
            self.child = MappingChild(settings.folder, settings.threads, device)
        elif placement in ("ranks", "pool") and rank == 0:
            self._watch = MappersWatch(settings.folder)

    def start(self, round_index: int) -> None:
        """Begin with this round. Its weights are there, or are handed over next."""
        self._next_round = round_index
        if self.placement == "inline":
            self._mapper = Mapper(self.settings, self.device or "cpu", neighbours=self.ranks)
        if self.rank == 0:
            self._lease = open_training(self.settings.store.folder)
        for beside in (self.child, self._watch):
            if beside:
                beside.start()

    def hand_over(self, round_index: int, model: PreTrainedModel, facts: HandOver) -> None:
        """Give the weights of the end of the round before to the mapping of this round."""
        path = self.settings.store.weights_path(round_index)
        if self.rank == 0 and not path.exists():
            save_weights(model, path, facts)
        if self._mapper:
            started = time.monotonic()
            threads = torch.get_num_threads()
            torch.set_num_threads(self.settings.threads)
            for unmapped in range(self._next_round, round_index + 1):
                self._mapper.map_round(unmapped)
            self._next_round = round_index + 1
            torch.set_num_threads(threads)
            self.inline_s += time.monotonic() - started

    def close(self) -> None:
        """End the mapping; a round that it has begun is not needed any more."""
        for ending in (self._watch, self.child):
            if ending:
                ending.close()
        if self._lease:
            self._lease.release()
        if self.rank == 0:
            forget_dead(self.settings.store.folder)
        if self.child:  # what it was writing
            for path in self.child.folder.glob("*/.*.part"):
                path.unlink(missing_ok=True)
