"""What one mapper does with a round: slide after slide, the next one read while the last tiles of this are computed."""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsi_hf.inference.memory import tiles_at_once
from wsi_hf.inference.network import PixelNetwork
from wsi_hf.inference.reading import Damage
from wsi_hf.inference.streaming import TileStream
from wsi_hf.mapping.lease import Lease
from wsi_hf.mapping.pool import Mapped, Plan, RoundPool
from wsi_hf.sampling.map_store import POLL_S, MapEntry
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.probability_map import ProbabilityMap, ProbabilityMapBuilder
from wsi_hf.sampling.unreadable import retried
from wsi_hf.slides.slide import Slide, SlideError

if TYPE_CHECKING:
    from wsi_hf.mapping.mapper import Mapper

logger = logging.getLogger(__name__)

SURELY_BENIGN = -40.0
"""The margin of what cannot be read: no patch is drawn there."""


@dataclass
class Job:
    """A slide that this mapper has claimed; what is read of it already."""

    slide: int
    lease: Lease
    begun: tuple[TileStream, ProbabilityMapBuilder] | None = None


class SlideQueue:
    """Claims the slides of a round one by one and maps them."""

    def __init__(self, mapper: "Mapper", network: PixelNetwork, pool: RoundPool, plan: Plan, entries: list[MapEntry]):
        self.mapper, self.network, self.pool, self.plan, self.entries = mapper, network, pool, plan, entries
        self.batch_size = tiles_at_once(network, mapper.settings.tile_size)
        self._next: Job | None = None
        self._free_since = time.monotonic()

    def work(self) -> None:
        """Return when all slides are mapped, by whomever; what is claimed falls back where this is interrupted."""
        job: Job | None = None
        try:
            while not self.pool.finished:
                self._claim_next()
                job, self._next = self._next, None
                if job is not None:
                    self._map(job)
                    job.lease.release()
                elif self.pool.results(self.plan) is not None:
                    return
                else:  # others are still at it
                    self.mapper.check()
                    time.sleep(POLL_S)
                    self._free_since = time.monotonic()
        finally:
            for claimed in filter(None, (job, self._next)):
                if claimed.begun:
                    claimed.begun[0].close()
                claimed.lease.release()

    def _claim_next(self) -> None:
        """Claim a slide and begin to read it."""
        if self._next is None and (claimed := self.pool.claim(self.plan)):
            self._next = Job(*claimed)
            with suppress(SlideError):  # it is tried again when its turn comes
                self._next.begun = self._begin(self._next.slide)

    def _map(self, job: Job) -> None:
        """Map a slide and write its map; one that cannot be read is set aside and keeps its last map."""
        slide_id, round_index = self.mapper.settings.slides[job.slide].slide_id, self.pool.round_index
        entry, reason = self.entries[job.slide], ""
        try:
            entry = self.mapper.store.save_map(self._map_of(job, slide_id), round_index)
        except SlideError as error:
            reason = str(error)
            logger.warning("%s is set aside: %s", slide_id, reason)
            self.mapper.unreadable.add(round_index, job.slide, reason)
        now = time.monotonic()
        self.pool.done(job.slide, Mapped(entry, reason, self.mapper.name, now - self._free_since))
        self._free_since = now

    def _map_of(self, job: Job, slide_id: str) -> ProbabilityMap:
        """The slide's map; of one that keeps failing, with what cannot be read as surely benign, if that is less."""
        try:
            return retried(lambda: self._compute(job), slide_id)
        except SlideError:
            damages: list[Damage] = []
            found = self._compute(job, damages)
            logger.warning("%s: %d spots cannot be read and count as benign", slide_id, len(damages))
            return found

    def _compute(self, job: Job, damages: list[Damage] | None = None) -> ProbabilityMap:
        """Map the slide; where damages are collected, whole but for these.

        Raises:
            SlideError: it cannot be read, or less than half of its tissue can.
        """
        (stream, builder), job.begun = job.begun or self._begin(job.slide, damages), None
        analysed, tissue = 0, builder.tissue
        assert tissue is not None
        try:
            for tile in stream:
                benign, malignant = tile.logits
                margin = malignant - benign
                if damages:
                    margin = margin.masked_fill(~tile.tissue, SURELY_BENIGN)
                analysed += int(tile.tissue.sum())
                builder.add(tile.x_px, tile.y_px, margin)
                self.mapper.check()
                if stream.all_asked:
                    self._claim_next()
        finally:
            stream.close()
        if damages and analysed < tissue.sum() * builder.map_stride**2 / 2:
            raise SlideError(f"most of it cannot be read: {damages[0].reason}")
        return builder.finish()

    def _begin(self, slide_index: int, damages: list[Damage] | None = None) -> tuple[TileStream, ProbabilityMapBuilder]:
        settings, info = self.mapper.settings, self.mapper.settings.slides[slide_index]
        slide = Slide(info.path, mpp=info.mpp)
        tissue = self.mapper.store.load_map(default_file(info)).tissue()
        builder = ProbabilityMapBuilder(
            info.slide_id, slide.size_px(settings.mpp), settings.mpp, tissue, settings.alpha, settings.map_stride,
            settings.tile_size, self.pool.round_index * settings.steps_per_round, settings.map_stride,
        )  # fmt: skip
        stream = TileStream(
            self.network, slide, tissue, settings.tile_size, self.mapper.pool,
            batch_size=self.batch_size, ahead=self.batch_size + self.mapper.threads, cell_px=settings.map_stride,
            on_damage=None if damages is None else damages.append,
        )  # fmt: skip
        return stream, builder


def default_file(info: TrainingSlide) -> str:
    """A slide's map before it is mapped; made by `first_maps.prepare`."""
    return f"{info.slide_id}.-1.safetensors"
