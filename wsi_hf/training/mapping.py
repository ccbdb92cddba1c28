"""What the mapping process computes: in round t, maps of the chosen slides with the weights handed over for round t."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, PreTrainedModel

from ..inference.network import PixelNetwork
from ..inference.streaming import stream_tiles, tissue_mask
from ..models.image_processing_wsi import WsiImageProcessor
from ..sampling.map_store import MapEntry, MapStore, wait_for, write_text
from ..sampling.patch_dataset import TrainingSlide
from ..sampling.probability_map import ProbabilityMap, ProbabilityMapBuilder, default_map
from ..sampling.slide_sampler import SlideSampler
from ..slides.slide import Slide, SlideError


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
    lag: int
    tissue: str
    seed: int
    threads: int

    def save(self) -> None:
        write_text(Path(self.folder) / "settings.json", json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def load(cls, folder: str | Path) -> "MappingSettings":
        facts = json.loads((Path(folder) / "settings.json").read_text())
        return cls(**{**facts, "folder": str(folder), "slides": [TrainingSlide(**slide) for slide in facts["slides"]]})

    @property
    def store(self) -> MapStore:
        return MapStore(self.folder, self.lag)

    @property
    def slide_sampler(self) -> SlideSampler:
        labels = [slide.label for slide in self.slides]
        return SlideSampler(labels, self.slides_per_round, self.max_epochs_unmapped, self.seed)


class Mapper:
    """Maps the slides of a round. Several mappers share a round's slides; the first of them publishes the round.

    Args:
        device: where the network runs.
        worker, workers: this mapper's number among all.
    """

    def __init__(self, settings: MappingSettings, device: torch.device | str, worker: int = 0, workers: int = 1):
        self.settings, self.device, self.worker, self.workers = settings, torch.device(device), worker, workers
        self.store, self.slide_sampler = settings.store, settings.slide_sampler
        self.model: PreTrainedModel = AutoModelForSemanticSegmentation.from_pretrained(model_folder(settings.folder))
        self.model = self.model.to(self.device).eval()
        self.image_processor = AutoImageProcessor.from_pretrained(model_folder(settings.folder))

    def map_round(self, round_index: int) -> None:
        """Map this mapper's share of the round's slides, with the handed-over weights, and finish the round."""
        if self.store.index_path(round_index).exists():
            return
        index = self.store.wait(round_index - 1)
        wait_for(self.store.weights_path(round_index), self.store.folder)
        self.model.load_state_dict(load_file(self.store.weights_path(round_index)))
        chosen = self.slide_sampler.choose(round_index, [e.round for e in index], [e.sum_q for e in index])
        mine = chosen[self.worker :: self.workers]
        network = PixelNetwork(self.model, self.image_processor, self.device)
        entries = {
            slide: self.store.save_map(self.map_slide(network, slide, round_index), round_index) for slide in mine
        }
        self._finish(round_index, index, entries)

    def map_slide(self, network: PixelNetwork, slide_index: int, round_index: int) -> ProbabilityMap:
        settings, info = self.settings, self.settings.slides[slide_index]
        slide = Slide(info.path, mpp=info.mpp)
        tissue = self.store.load_map(default_entry(info)).tissue()
        builder = ProbabilityMapBuilder(
            info.slide_id, slide.size_px(settings.mpp), settings.mpp, tissue, settings.alpha, settings.map_stride,
            settings.tile_size, weights_step=round_index * settings.steps_per_round,
        )  # fmt: skip
        for tile in stream_tiles(network, slide, tissue=tissue, tile_size=settings.tile_size, num_workers=1):
            benign, malignant = tile.logits
            builder.add(tile.x_px, tile.y_px, malignant - benign)
        return builder.finish()

    def _finish(self, round_index: int, index: list[MapEntry], entries: dict[int, MapEntry]) -> None:
        """Merge the shares of all mappers into the round's index; the first mapper publishes it."""
        part = {slide: dataclasses.asdict(entry) for slide, entry in entries.items()}
        write_text(self._part(round_index, self.worker), json.dumps(part))
        if self.worker:
            return
        for worker in range(self.workers):
            path = self._part(round_index, worker)
            wait_for(path, self.store.folder)
            for slide, entry in json.loads(path.read_text()).items():
                index[int(slide)] = MapEntry(**entry)
            path.unlink()
        self.store.publish(round_index, index)

    def _part(self, round_index: int, worker: int) -> Path:
        return self.store.folder / "rounds" / f"{round_index}.part{worker}"


def default_entry(info: TrainingSlide) -> MapEntry:
    """Where a slide's default map lies; made by `prepare`."""
    return MapEntry(f"{info.slide_id}.-1.safetensors", -1, 0.0, 0.0)


def prepare(settings: MappingSettings) -> None:
    """Find the tissue of every slide and publish the default maps as round -1.

    Raises:
        SlideError: slides that cannot be read; all of them are named.
    """
    store = settings.store
    if store.index_path(-1).exists():
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda info: _default_map_or_error(settings, info), settings.slides)
        results = list(tqdm(made, desc="Finding tissue", total=len(settings.slides), unit="slide"))
    errors = [result for result in results if isinstance(result, Exception)]
    if errors:
        listing = "\n".join(f"  {error}" for error in errors)
        raise SlideError(f"{len(errors)} of {len(results)} training slides cannot be used:\n{listing}")
    store.publish(-1, [store.save_map(result, -1) for result in results])


def _default_map_or_error(settings: MappingSettings, info: TrainingSlide) -> ProbabilityMap | Exception:
    try:
        slide = Slide(info.path, mpp=info.mpp)
        tissue = tissue_mask(slide, "auto" if settings.tissue == "auto" else None)
        return default_map(
            info.slide_id, slide.size_px(settings.mpp), settings.mpp, tissue, settings.alpha, settings.map_stride,
            settings.tile_size,
        )  # fmt: skip
    except (SlideError, OSError) as error:
        return error


def model_folder(folder: str | Path) -> Path:
    return Path(folder) / "model"


def save_architecture(model: PreTrainedModel, image_processor: WsiImageProcessor, folder: str | Path) -> None:
    """What a mapper builds its network from; the weights come round by round."""
    model.save_pretrained(model_folder(folder))
    image_processor.save_pretrained(model_folder(folder))


def save_weights(model: PreTrainedModel, path: Path) -> None:
    """Hand over weights and buffers: written under a temporary name, then renamed."""
    partial = path.with_name(path.name + ".tmp")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, partial)
    partial.replace(path)
