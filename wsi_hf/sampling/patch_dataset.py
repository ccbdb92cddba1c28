"""The stream of training patches: a map-style data set whose item i is a function of (seed, i, maps of its round).

Nothing is stored between items, so workers, ranks and a resumed run all see the same stream. Benign and malignant items
alternate. Each class passes through a shuffle buffer of `shuffle_buffer` draws, which is filled at once from the latest
maps, emptied in random order and filled again.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch.utils.data import Dataset, Sampler

from wsi_hf.sampling.map_store import MapStore, Round
from wsi_hf.sampling.patch_sampler import PatchSampler
from wsi_hf.sampling.unreadable import UnreadableLog, readable, retried
from wsi_hf.slides.slide import Slide, SlideError


@dataclass(frozen=True)
class TrainingSlide:
    """What training knows of a slide: no annotation. `mpp` overrides the file's metadata; `tissue` is a mask's file."""

    slide_id: str
    path: str
    label: int
    mpp: float | None = None
    tissue: str | None = None


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
        glass_share: of the benign patches, those centred off the tissue: on glass, or outside the slide. Malignant ones
            never are: they may show tumour beside it, or nothing that deserves their label. Not in the paper.
        error_mass: with "all", benign slides are drawn in proportion to the sum of their maps; False: all alike.
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
        error_mass: bool = True,
        glass_share: float = 0.0,
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
        self.draw_from, self.dynamic, self.error_mass = draw_from, dynamic, error_mass
        self.glass_share = glass_share
        self.labels = np.array([slide.label for slide in slides])
        self._failed: set[int] = set()  # slides that this process has tried in vain

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> dict[str, np.ndarray | int | float]:
        """Item i: the patch, uint8 (H, W, 3), its slide's label, and where it came from (level-0 pixels).

        A slide that was drawn but could not be read is noted in the store's `UnreadableLog`, and another is drawn in
        its place.

        Raises:
            SlideError: no slide of the item's class can be read.
        """
        unreadable = set[int]()
        while True:
            draw = self.draw(i, unreadable)
            try:
                pixels, center_l0 = self._read(draw)
                break
            except SlideError as error:
                unreadable.add(draw.slide)
                if not readable(self.slides[draw.slide].path, self.slides[draw.slide].mpp):
                    UnreadableLog(self.store.folder).add(i // self.items_per_round, draw.slide, str(error), i)
                if len(unreadable) == np.sum(self.labels == i % 2):
                    raise
        return {
            "pixel_values": pixels,
            "labels": self.slides[draw.slide].label,
            "index": i,
            "slide": draw.slide,
            "center_l0": np.array(center_l0),
            "map_round": draw.map_round,
        }

    def await_maps(self, i: int) -> None:
        """Return as soon as the maps that item i is drawn from are finished."""
        self._index(self.filled_in(i) - 1)

    def forget_maps(self) -> None:
        """To be called where another run begins: it makes other maps under the same names."""
        self._failed.clear()
        self._index.cache_clear()  # of all data sets, at no harm
        self._sampler.cache_clear()
        self._candidates.cache_clear()

    def draw(self, i: int, left_out: Collection[int] = ()) -> Draw:
        """Where item i comes from; once more, without the slides in `left_out`, after these could not be read."""
        label, place = i % 2, i // 2  # place in the stream of its class
        block, slot = divmod(place, self.shuffle_buffer)
        draw_index = block * self.shuffle_buffer + int(self._shuffle(label, block)[slot])
        round_index = self.filled_in(i)
        index = self._index(round_index - 1)
        again = [len(left_out)] if left_out else []
        rng = np.random.default_rng([self.seed, 2, label, draw_index, *again])
        slides, p = self._candidates(label, round_index, tuple(sorted(left_out)))
        slide = int(rng.choice(slides, p=p))
        entry = index.entries[slide]
        sampler = self._sampler(entry.file)
        off = bool(self.glass_share) and label == 0 and rng.random() < self.glass_share
        center = sampler.draw_off_tissue(self.patch_size // 2, rng) if off else sampler.draw(1, rng)[0]
        return Draw(slide, (int(center[0]), int(center[1])), entry.round)

    def filled_in(self, i: int) -> int:
        """The round in which item i was put into the shuffle buffer; it comes from the index of the round before."""
        block = i // 2 // self.shuffle_buffer
        return block * self.shuffle_buffer // (self.items_per_round // 2) if self.dynamic else 0

    @lru_cache(maxsize=64)  # noqa: B019 - drawing one of 400 slides costs no more than one of four
    def _candidates(
        self, label: int, round_index: int, left_out: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The slides of a class that a round draws from, and with what probability; None: all alike."""
        index = self._index(round_index - 1)
        entries = index.entries
        candidates = np.array([s for s in np.flatnonzero(self.labels == label) if s not in left_out])
        # where all are lost any is as good; the training stops for it
        candidates = np.array([s for s in candidates if s not in index.lost] or candidates)
        if round_index == 0:
            return candidates, None
        if self.draw_from == "fresh":
            newest = max(entries[s].round for s in candidates)  # the last round, unless all that it mapped are lost
            return np.array([s for s in candidates if entries[s].round == newest]), None
        if label == 1 or not self.error_mass:
            return candidates, None
        mass = np.array([entries[s].sum_q for s in candidates])
        return candidates, mass / mass.sum() if mass.any() else None  # none: all benign, everywhere

    def _read(self, draw: Draw) -> tuple[np.ndarray, tuple[float, float]]:
        """The patch and its centre in level-0 pixels. A slide that has failed before is not waited for again."""
        info = self.slides[draw.slide]
        try:
            return retried(lambda: self._read_once(draw), info.slide_id, patient=draw.slide not in self._failed)
        except SlideError:
            self._failed.add(draw.slide)
            raise

    def _read_once(self, draw: Draw) -> tuple[np.ndarray, tuple[float, float]]:
        info = self.slides[draw.slide]
        slide = self._open(info.path, info.mpp)
        x_px, y_px = draw.center_px
        center_l0 = ((x_px + 0.5) * self.mpp / slide.mpp, (y_px + 0.5) * self.mpp / slide.mpp)
        return slide.read_patch(center_l0, self.patch_size, self.mpp), center_l0

    @lru_cache(maxsize=1024)  # noqa: B019 - what a header says; the files themselves are opened and closed by the pool
    def _open(self, path: str, mpp: float | None) -> Slide:
        return Slide(path, mpp=mpp)

    @lru_cache(maxsize=8)  # noqa: B019 - one data set lives as long as its process
    def _shuffle(self, label: int, block: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 3, label, block]).permutation(self.shuffle_buffer)

    @lru_cache(maxsize=4)  # noqa: B019
    def _index(self, round_index: int) -> Round:
        return self.store.wait(round_index)

    @lru_cache(maxsize=1024)  # noqa: B019 - the cells stay in the files, memory-mapped
    def _sampler(self, file: str) -> PatchSampler:
        return PatchSampler(self.store.load_map(file))


class RunSampler(Sampler[int]):
    """Item indices of one epoch after the other, in order: epoch e holds e * length ... (e + 1) * length - 1.

    They end with the run, lest a batch be fetched ahead that nobody needs, from maps that are still to be made.
    """

    def __init__(self, length: int, items: int):
        self.length, self.items, self.epoch = length, items, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.length, min((self.epoch + 1) * self.length, self.items)))

    def __len__(self) -> int:
        return self.length
