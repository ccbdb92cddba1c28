"""What the mapping process computes: in round t, maps of the chosen slides with the weights handed over for round t."""

import dataclasses
import json
import logging
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, PreTrainedModel

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.mapping.lease import Watch
from wsi_hf.mapping.pool import Mapped, Plan, RoundPool
from wsi_hf.mapping.slide_queue import SlideQueue
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.sampling.map_store import MapStore, Round, wait_for
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.slide_sampler import SlideSampler
from wsi_hf.sampling.unreadable import UnreadableLog
from wsi_hf.slides.damaged import check_types, reading
from wsi_hf.slides.names import check_names
from wsi_hf.slides.replacing import replacing, write_text

logger = logging.getLogger(__name__)

FIRST_SLIDES = 8
"""Slides of the first round where the number follows from rates, which are not known yet."""


@dataclass(frozen=True)
class MappingSettings:
    """All that a mapping process must know; travels as JSON in the mapping folder."""

    folder: str
    slides: list[TrainingSlide]
    mpp: float
    alpha: float
    map_stride: int
    tile_size: int
    slides_per_round: int
    max_epochs_unmapped: int
    steps_per_round: int
    tissue: str
    seed: int
    threads: int
    error_mass: bool = True
    discovery_rounds: int = 0
    discovery: str = "kinds"
    discovery_encoder: str = ""
    dtype: str = "float32"
    reading_threads: int = 0

    def save(self) -> None:
        write_text(Path(self.folder) / "settings.json", json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def load(cls, folder: str | Path) -> "MappingSettings":
        with reading(path := Path(folder) / "settings.json", "the settings of a training's maps"):
            facts = json.loads(path.read_text())
            slides = [check_types(TrainingSlide(**slide)) for slide in facts["slides"]]
            check_names([slide.slide_id for slide in slides], path.name)
            return check_types(cls(**{**facts, "folder": str(folder), "slides": slides}))

    @property
    def store(self) -> MapStore:
        return MapStore(self.folder)

    @property
    def slide_sampler(self) -> SlideSampler:
        """One step of it is a round; a pair of slides where their number in a round follows from rates."""
        labels = [slide.label for slide in self.slides]
        return SlideSampler(labels, self.slides_per_round or 2, self.max_epochs_unmapped, self.seed, self.error_mass)


@dataclass(frozen=True)
class HandOver:
    """What travels with the weights of a round.

    round_s: seconds of training between the last two hand-overs, without waiting; 0 if unknown.
    """

    round_s: float = 0.0

    @classmethod
    def load(cls, path: Path) -> "HandOver":
        with safe_open(path, framework="pt") as file:
            return cls(**json.loads(file.metadata()["hand_over"]))


class Mapper:
    """Maps slides of a round after the other, with as many other mappers as there are.

    Args:
        device: where the network runs.
        check: called often; raises where there is nothing to map for any more.
        neighbours: mappers on this machine, among whom its cores are shared out for reading.
    """

    def __init__(
        self,
        settings: MappingSettings,
        device: torch.device | str,
        check: Callable[[], None] = lambda: None,
        neighbours: int = 1,
    ):
        self.settings, self.device, self.check = settings, torch.device(device), check
        self.store, self.slide_sampler = settings.store, settings.slide_sampler
        self.unreadable, self.watch = UnreadableLog(settings.folder), Watch()
        self.name = f"{socket.gethostname()}.{os.getpid()}"
        self.threads = settings.reading_threads or max(1, usable_cores() // neighbours)
        self.pool = ThreadPoolExecutor(self.threads)
        self.model: PreTrainedModel = AutoModelForSemanticSegmentation.from_pretrained(model_folder(settings.folder))
        self.model = self.model.to(self.device).eval()
        self.image_processor = AutoImageProcessor.from_pretrained(model_folder(settings.folder))

    def map_round(self, round_index: int) -> None:
        """Map slides of the round, with the handed-over weights, until it is finished."""
        pool = RoundPool(self.store, round_index, self.watch)
        if pool.finished:
            return
        called, weights = time.monotonic(), self.store.weights_path(round_index)
        for path in (self.store.index_path(round_index - 1), weights):
            wait_for(path, self.store.folder, self.check)
        waited_s, index = time.monotonic() - called, self.store.read(round_index - 1)
        self.model.load_state_dict(load_file(weights))
        plan = pool.plan(lambda: self._plan(round_index, index, HandOver.load(weights).round_s))
        network = PixelNetwork(self.model, self.image_processor, self.device, getattr(torch, self.settings.dtype))
        network.alignment = math.lcm(network.alignment, self.settings.map_stride)  # no cell straddles two tiles
        SlideQueue(self, network, pool, plan, index.entries).work()
        if not pool.finished and (results := pool.results(plan)):
            merged = _merged(round_index, index, plan, results, waited_s)
            lost = {**self.unreadable.before(round_index, mapped=True), **plan.lost}
            pool.publish(dataclasses.replace(merged, lost=lost))

    def _plan(self, round_index: int, index: Round, round_s: float) -> Plan:
        """The slides of a round, most tissue first: the last ones to be mapped are small, and nobody waits long.

        With a fixed number of slides a round is one step. Else it takes pairs until their tiles, at the speed measured
        in the round before, fill the time of a round of training. Benign ones alone while malignant slides keep their
        first maps: what looks malignant on them is wrong for sure.
        """
        lost = {**self.unreadable.before(round_index), **index.lost}
        last, sum_q = [entry.step for entry in index.entries], [entry.sum_q for entry in index.entries]
        tiles, left_out = [entry.tiles for entry in index.entries], set(lost)
        if round_index < self.settings.discovery_rounds:
            left_out |= {number for number, slide in enumerate(self.settings.slides) if slide.label}
        sampler = self.slide_sampler
        if self.settings.slides_per_round:
            chosen = dict.fromkeys(sampler.choose(index.steps, last, sum_q, left_out), index.steps)
            steps = index.steps + 1
        elif index.tiles_per_s:
            chosen, steps = sampler.fill(index.steps, last, sum_q, tiles, round_s * index.tiles_per_s, left_out)
        else:
            chosen, steps = sampler.fill(index.steps, last, sum_q, [1] * len(last), FIRST_SLIDES, left_out)
        return Plan(dict(sorted(chosen.items(), key=lambda item: (-tiles[item[0]], item[0]))), steps, lost)


def _merged(round_index: int, index: Round, plan: Plan, results: dict[int, Mapped], waited_s: float) -> Round:
    """The index of a round of which all slides are mapped."""
    entries, seconds = list(index.entries), Counter[str]()
    for slide, mapped in results.items():
        entries[slide] = dataclasses.replace(mapped.entry, step=plan.slides[slide])
        seconds[mapped.mapper] += mapped.seconds  # type: ignore[assignment]  # of a float
    slowest = max(seconds.values(), default=0.0)
    tiles = sum(entry.tiles for entry in entries if entry.round == round_index)
    return Round(entries, plan.steps, slowest, waited_s, tiles / max(slowest, 1e-9))


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model_folder(folder: str | Path) -> Path:
    return Path(folder) / "model"


def save_architecture(model: PreTrainedModel, image_processor: WsiImageProcessor, folder: str | Path) -> None:
    """What a mapper builds its network from; the weights come round by round."""
    model.save_pretrained(model_folder(folder))
    image_processor.save_pretrained(model_folder(folder))


def save_weights(model: PreTrainedModel, path: Path, hand_over: HandOver) -> None:
    """Hand over weights and buffers: written under a temporary name, then renamed.

    Raises:
        OSError: the disk is full.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        with replacing(path) as part:
            save_file(tensors, part, metadata={"hand_over": json.dumps(dataclasses.asdict(hand_over))})
    except SafetensorError as error:
        raise OSError(f"the weights cannot be handed over in {path.parent}: {error}") from error
