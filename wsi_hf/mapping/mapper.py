"""What the mapping process computes: in round t, maps of the chosen slides with the weights handed over for round t."""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, PreTrainedModel

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.streaming import stream_tiles
from wsi_hf.models.image_processing_wsi import WsiImageProcessor
from wsi_hf.sampling.map_store import MapEntry, MapStore, Round, wait_for
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.probability_map import ProbabilityMap, ProbabilityMapBuilder
from wsi_hf.sampling.slide_sampler import SlideSampler
from wsi_hf.sampling.unreadable import UnreadableLog, retried
from wsi_hf.slides.damaged import check_types, reading
from wsi_hf.slides.names import check_names
from wsi_hf.slides.replacing import replacing, write_text
from wsi_hf.slides.slide import Slide, SlideError

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
    dtype: str = "float32"

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
    """Maps the slides of a round. Several mappers share a round's slides; the first of them publishes the round.

    Args:
        device: where the network runs.
        worker, workers: this mapper's number among all.
    """

    def __init__(self, settings: MappingSettings, device: torch.device | str, worker: int = 0, workers: int = 1):
        self.settings, self.device, self.worker, self.workers = settings, torch.device(device), worker, workers
        self.store, self.slide_sampler = settings.store, settings.slide_sampler
        self.unreadable = UnreadableLog(settings.folder)
        self.model: PreTrainedModel = AutoModelForSemanticSegmentation.from_pretrained(model_folder(settings.folder))
        self.model = self.model.to(self.device).eval()
        self.image_processor = AutoImageProcessor.from_pretrained(model_folder(settings.folder))

    def map_round(self, round_index: int) -> None:
        """Map this mapper's share of the round's slides, with the handed-over weights, and finish the round."""
        if self.store.index_path(round_index).exists():
            return
        called, weights = time.monotonic(), self.store.weights_path(round_index)
        index = self.store.wait(round_index - 1)
        wait_for(weights, self.store.folder)
        begun = time.monotonic()
        self.model.load_state_dict(load_file(weights))
        index = dataclasses.replace(index, lost={**self.unreadable.before(round_index), **index.lost})
        entries = index.entries
        chosen, steps = self._choose(round_index, index, HandOver.load(weights).round_s)
        network = PixelNetwork(self.model, self.image_processor, self.device, getattr(torch, self.settings.dtype))
        network.alignment = math.lcm(network.alignment, self.settings.map_stride)  # no cell straddles two tiles
        mine = self._mine(chosen, entries)
        share = {
            slide: dataclasses.replace(self._map(network, slide, round_index, entries[slide]), step=step)
            for slide, step in chosen.items()
            if slide in mine
        }
        done = {"seconds": time.monotonic() - begun, "waited_s": begun - called}
        self._finish(round_index, dataclasses.replace(index, steps=steps), share, done)

    def map_slide(self, network: PixelNetwork, slide_index: int, round_index: int) -> ProbabilityMap:
        settings, info = self.settings, self.settings.slides[slide_index]
        slide = Slide(info.path, mpp=info.mpp)
        tissue = self.store.load_map(default_file(info)).tissue()
        builder = ProbabilityMapBuilder(
            info.slide_id, slide.size_px(settings.mpp), settings.mpp, tissue, settings.alpha, settings.map_stride,
            settings.tile_size, weights_step=round_index * settings.steps_per_round,
        )  # fmt: skip
        for tile in stream_tiles(network, slide, tissue=tissue, tile_size=settings.tile_size, num_workers=1):
            benign, malignant = tile.logits
            builder.add(tile.x_px, tile.y_px, malignant - benign)
        return builder.finish()

    def _choose(self, round_index: int, index: Round, round_s: float) -> tuple[dict[int, int], int]:
        """The slides of a round, each with its step of the slide sampler, and the sampler's steps so far.

        With a fixed number of slides a round is one step. Else it takes pairs until their tiles, at the speed measured
        in the round before, fill the time of a round of training. Benign ones alone while malignant slides keep their
        first maps: what looks malignant on them is wrong for sure.
        """
        last, sum_q = [entry.step for entry in index.entries], [entry.sum_q for entry in index.entries]
        left_out = set(index.lost)
        if round_index < self.settings.discovery_rounds:
            left_out |= {number for number, slide in enumerate(self.settings.slides) if slide.label}
        if self.settings.slides_per_round:
            slides = self.slide_sampler.choose(index.steps, last, sum_q, left_out)
            return dict.fromkeys(slides, index.steps), index.steps + 1
        if not index.tiles_per_s:
            return self.slide_sampler.fill(index.steps, last, sum_q, [1] * len(last), FIRST_SLIDES, left_out)
        tiles = [entry.tiles for entry in index.entries]
        return self.slide_sampler.fill(
            index.steps, last, sum_q, tiles, round_s * index.tiles_per_s * self.workers, left_out
        )

    def _mine(self, chosen: Collection[int], entries: Sequence[MapEntry]) -> set[int]:
        """This mapper's share: the slides with most tissue go first, each to whom has least to do."""
        shares: list[set[int]] = [set() for _ in range(self.workers)]
        tiles = [0] * self.workers
        for slide in sorted(chosen, key=lambda s: (-entries[s].tiles, s)):
            worker = tiles.index(min(tiles))
            shares[worker].add(slide)
            tiles[worker] += max(entries[slide].tiles, 1)
        return shares[self.worker]

    def _map(self, network: PixelNetwork, slide: int, round_index: int, entry: MapEntry) -> MapEntry:
        """Map a slide and write its map; one that cannot be read is set aside and keeps its last map."""
        try:
            probability_map = retried(
                lambda: self.map_slide(network, slide, round_index), self.settings.slides[slide].slide_id
            )
        except SlideError as error:
            logger.warning("%s is set aside: %s", self.settings.slides[slide].slide_id, error)
            self.unreadable.add(round_index, slide, str(error))
            return entry
        return self.store.save_map(probability_map, round_index)

    def _finish(self, round_index: int, index: Round, share: dict[int, MapEntry], done: dict[str, float]) -> None:
        """Merge the shares of all mappers into the round's index; the first mapper publishes it."""
        part = {"share": {slide: dataclasses.asdict(entry) for slide, entry in share.items()}, **done}
        write_text(self._part(round_index, self.worker), json.dumps(part))
        if self.worker:
            return
        parts, entries = [], list(index.entries)
        for worker in range(self.workers):
            path = self._part(round_index, worker)
            wait_for(path, self.store.folder)
            parts.append(json.loads(path.read_text()))
            for slide, entry in parts[-1]["share"].items():
                entries[int(slide)] = MapEntry(**entry)
        slowest = max(parts, key=lambda part: part["seconds"])
        tiles = sum(e["tiles"] for part in parts for e in part["share"].values() if e["round"] == round_index)
        lost = {**{line["slide"]: line["reason"] for line in self._failed_now(round_index)}, **index.lost}
        self.store.publish(
            round_index,
            Round(
                entries, index.steps, slowest["seconds"], slowest["waited_s"],
                tiles / max(sum(part["seconds"] for part in parts), 1e-9), lost,
            ),
        )  # fmt: skip
        for worker in range(self.workers):
            self._part(round_index, worker).unlink()

    def _failed_now(self, round_index: int) -> list[dict[str, Any]]:
        """What the mappers of this round could not read."""
        return [line for line in self.unreadable.lines() if line["round"] == round_index and line["item"] < 0]

    def _part(self, round_index: int, worker: int) -> Path:
        return self.store.folder / "rounds" / f"{round_index}.part{worker}"


def default_file(info: TrainingSlide) -> str:
    """A slide's map before it is mapped; made by `first_maps.prepare`."""
    return f"{info.slide_id}.-1.safetensors"


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
