"""The stream of training patches: a map-style data set whose item i is a function of (seed, i, maps of its round).

Nothing is stored between items, so workers, ranks and a resumed run all see the same stream. Benign and malignant items
alternate. Each class passes through a shuffle buffer of `shuffle_buffer` draws, which is filled at once from the latest
maps, emptied in random order and filled again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch.utils.data import Dataset, Sampler

from ..slides.slide import Slide
from .map_store import MapEntry, MapStore
from .patch_sampler import PatchSampler


@dataclass(frozen=True)
class TrainingSlide:
    """What training knows of a slide: no annotation. `mpp` overrides the file's metadata."""

    slide_id: str
    path: str
    label: int
    mpp: float | None = None


@dataclass(frozen=True)
class Draw:
    """One patch to be read: the slide's index, its centre in model pixels, the round whose maps it was drawn from."""

    slide: int
    center_px: tuple[int, int]
    map_round: int


class DynamicPatchDataset(Dataset):
    """Patches drawn where the model itself sees cancer.

    Args:
        slides: the training slides.
        store: where the maps are.
        length: items in an epoch; item indices go on beyond it in later epochs.
        items_per_round: items that all ranks together consume in one round.
        shuffle_buffer: draws of one class that are mixed; 1 = no mixing.
        dynamic: draw from the latest maps; False draws uniformly over the tissue for ever.
        draw_from: "fresh" draws from the slides mapped in the last finished round, "all" from every slide's latest map.
    """

    def __init__(
        self,
        slides: Sequence[TrainingSlide],
        store: MapStore,
        *,
        length: int,
        patch_size: int,
        mpp: float,
        items_per_round: int,
        shuffle_buffer: int,
        seed: int,
        draw_from: str = "fresh",
        dynamic: bool = True,
    ):
        if draw_from not in ("fresh", "all"):
            raise ValueError(f'draw_from is "fresh" or "all", not {draw_from!r}')
        if items_per_round % 2:
            raise ValueError(
                f"a round of {items_per_round} patches cannot be half benign, half malignant; use an even batch"
            )
        self.slides, self.store, self.length = list(slides), store, length
        self.patch_size, self.mpp, self.seed = patch_size, mpp, seed
        self.items_per_round, self.shuffle_buffer = items_per_round, shuffle_buffer
        self.draw_from, self.dynamic = draw_from, dynamic
        self.labels = np.array([slide.label for slide in slides])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> dict[str, np.ndarray | int]:
        """Item i: the patch, uint8 (H, W, 3), its slide's label, and where it came from (level-0 pixels)."""
        draw = self.draw(i)
        info = self.slides[draw.slide]
        slide = Slide(info.path, mpp=info.mpp)
        x_px, y_px = draw.center_px
        center_l0 = ((x_px + 0.5) * self.mpp / slide.mpp, (y_px + 0.5) * self.mpp / slide.mpp)
        return {
            "pixel_values": slide.read_patch(center_l0, self.patch_size, self.mpp),
            "labels": info.label,
            "index": i,
            "slide": draw.slide,
            "center_l0": np.array(center_l0),
            "map_round": draw.map_round,
        }

    def draw(self, i: int) -> Draw:
        """Where item i comes from."""
        label, place = i % 2, i // 2  # place in the stream of its class
        block, slot = divmod(place, self.shuffle_buffer)
        draw_index = block * self.shuffle_buffer + int(self._shuffle(label, block)[slot])
        round_index = block * self.shuffle_buffer // (self.items_per_round // 2) if self.dynamic else 0
        index = self._index(round_index - 1)
        rng = np.random.default_rng([self.seed, 2, label, draw_index])
        slide = self._slide(index, label, round_index, rng)
        center = self._sampler(index[slide]).draw(1, rng)[0]
        return Draw(slide, (int(center[0]), int(center[1])), index[slide].round)

    def _slide(self, index: list[MapEntry], label: int, round_index: int, rng: np.random.Generator) -> int:
        candidates = np.flatnonzero(self.labels == label)
        if round_index == 0:
            return int(rng.choice(candidates))
        if self.draw_from == "fresh":
            return int(rng.choice([s for s in candidates if index[s].round == round_index - 1]))
        if label == 1:
            return int(rng.choice(candidates))
        mass = np.array([index[s].sum_q for s in candidates])
        return int(rng.choice(candidates, p=mass / mass.sum()))

    @lru_cache(maxsize=8)  # noqa: B019 - one data set lives as long as its process
    def _shuffle(self, label: int, block: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 3, label, block]).permutation(self.shuffle_buffer)

    @lru_cache(maxsize=4)  # noqa: B019
    def _index(self, round_index: int) -> list[MapEntry]:
        return self.store.wait(round_index)

    @lru_cache(maxsize=64)  # noqa: B019
    def _sampler(self, entry: MapEntry) -> PatchSampler:
        return PatchSampler(self.store.load_map(entry))


class RunSampler(Sampler[int]):
    """Item indices of one epoch after the other, in order: epoch e holds e * length ... (e + 1) * length - 1."""

    def __init__(self, length: int):
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.length, (self.epoch + 1) * self.length))

    def __len__(self) -> int:
        return self.length
