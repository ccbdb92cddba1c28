"""A slide's probability map as the sampler needs it: the mass of Q^alpha in every cell of the tissue, on disk."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from wsi_hf.sampling.map_check import check_map
from wsi_hf.slides.damaged import reading
from wsi_hf.slides.replacing import replacing
from wsi_hf.slides.tissue import mask_index

# A cell is stored as the logarithm of its mass below the heaviest cell of its tile, in 65,534 steps over 32 nats: the
# relative error is at most 2.5e-4, and what lies deeper weighs less than e^-32 of its tile. Code 0 means "no tissue".
NATS = 32.0
TOP_CODE = 65535


@dataclass(frozen=True)
class ProbabilityMap:
    """Sum of Q^alpha over the pixels of each cell, for the tiles that hold tissue; Q = P(malignant) of a pixel.

    `map_stride` model pixels make a cell side (paper: 1, every pixel), `tile_size` model pixels a tile side.
    Frame: `_px` counts pixels at `mpp` um a pixel from the slide's corner.
    """

    slide_id: str
    size_px: tuple[int, int]  # (width, height)
    mpp: float
    alpha: float
    map_stride: int
    tile_size: int
    weights_step: int  # optimiser steps behind the weights; -1 for the default map
    sum_q: float  # exact sum of Q over the tissue's pixels: the error mass of a benign slide
    largest_margin: float  # exact largest l1 - l0: the slide's score
    origins_px: np.ndarray  # (T, 2) int32, (x, y)
    log_mass: np.ndarray  # (T,) float64, log of the tile's sum of Q^alpha, before rounding
    codes: np.ndarray  # (T, c, c) uint16, c = tile_size / map_stride

    def tissue(self) -> np.ndarray:
        """Which cells of the whole slide are tissue, bool (rows, columns): a mask with cells of `map_stride` pixels."""
        rows, columns = (-(-size // self.map_stride) for size in (self.size_px[1], self.size_px[0]))
        side = self.tile_size // self.map_stride
        mask = np.zeros((rows + side, columns + side), bool)
        for (x_px, y_px), codes in zip(self.origins_px, self.codes, strict=True):
            top, left = y_px // self.map_stride, x_px // self.map_stride
            mask[top : top + side, left : left + side] = codes > 0
        return mask[:rows, :columns]

    def is_tissue(self, x_px: int, y_px: int) -> bool:
        """Whether a pixel lies on tissue; what lies outside the slide does not."""
        corner = np.array([x_px, y_px]) // self.tile_size * self.tile_size
        tile = np.flatnonzero((self.origins_px == corner).all(axis=1))
        column, row = (np.array([x_px, y_px]) - corner) // self.map_stride
        return bool(len(tile)) and bool(self.codes[tile[0], row, column] > 0)

    def save(self, path: str | os.PathLike) -> None:
        """Write as safetensors, facts in the header, under a temporary name that is then renamed."""
        facts = {name: str(getattr(self, name)) for name in ("slide_id", "weights_step", "map_stride", "tile_size")}
        facts |= {name: repr(float(getattr(self, name))) for name in ("mpp", "alpha", "sum_q", "largest_margin")}
        facts |= {"width_px": str(self.size_px[0]), "height_px": str(self.size_px[1])}
        tensors = {"origins_px": self.origins_px, "log_mass": self.log_mass, "codes": self.codes}
        try:
            with replacing(Path(path)) as part:
                save_file(tensors, part, metadata=facts)
        except SafetensorError as error:  # a full disk
            raise OSError(f"{self.slide_id}: its map cannot be written to {Path(path).parent}: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ProbabilityMap":
        """Read a map; the cells stay in the file, memory-mapped and shared between processes.

        Raises:
            DamagedFileError: it is damaged, or no map; the message names the file.
        """
        with reading(path, "a probability map", "remove it and train again from a checkpoint"):
            with safe_open(path, framework="numpy") as file:
                facts = dict(file.metadata())
                origins_px, log_mass = file.get_tensor("origins_px"), file.get_tensor("log_mass")
                shape, kind = (codes := file.get_slice("codes")).get_shape(), codes.get_dtype()
            numbers: dict[str, Any] = {name: int(facts[name]) for name in ("map_stride", "tile_size", "weights_step")}
            numbers |= {name: float(facts[name]) for name in ("mpp", "alpha", "sum_q", "largest_margin")}
            loaded = cls(
                slide_id=facts["slide_id"], size_px=(int(facts["width_px"]), int(facts["height_px"])),
                origins_px=origins_px, log_mass=log_mass, codes=_mapped_tensor(path, "codes", shape), **numbers,
            )  # fmt: skip
            check_map(loaded, kind)
            return loaded


class ProbabilityMapBuilder:
    """Collects a slide's regions into its probability map. All in logarithms: float32 Q^8 would underflow.

    Args:
        tissue: bool mask, or None for the whole slide. A cell is tissue if the mask holds its centre.
        cell_px: the side of the mask's cells, as for `mask_index`; None: it spans the slide.
    """

    def __init__(
        self,
        slide_id: str,
        size_px: tuple[int, int],
        mpp: float,
        tissue: np.ndarray | None,
        alpha: float,
        map_stride: int,
        tile_size: int,
        weights_step: int,
        cell_px: float | None = None,
    ):
        if tile_size % map_stride:
            raise ValueError(f"tile_size {tile_size} is no multiple of map_stride {map_stride}")
        self.slide_id, self.size_px, self.mpp, self.tissue, self.cell_px = slide_id, size_px, mpp, tissue, cell_px
        self.alpha, self.map_stride, self.tile_size, self.weights_step = alpha, map_stride, tile_size, weights_step
        self.sum_q, self.largest_margin = 0.0, -math.inf
        self._tiles: dict[tuple[int, int], np.ndarray] = {}  # (row, column) of the tile -> log of its cells' masses

    def add(self, x_px: int, y_px: int, margin: Tensor) -> None:
        """Take in a region.

        Args:
            x_px, y_px: its upper left corner in model pixels, multiples of `map_stride`.
            margin: l1 - l0 of its pixels, (h, w); multiples of `map_stride` but at the slide's far borders.

        Raises:
            ValueError: the margin is not finite.
        """
        if not torch.isfinite(margin).all():
            raise ValueError(f"{self.slide_id}: the model gives NaN or infinite logits; the weights have diverged")
        stride = self.map_stride
        padded = F.pad(margin.float(), (0, -margin.shape[1] % stride, 0, -margin.shape[0] % stride), value=-math.inf)
        cells = _blocks(padded, stride)  # (rows, columns, stride^2) margins
        tissue = self._tissue(x_px, y_px, (len(cells), cells.shape[1]))
        if not tissue.any():
            return
        cells = cells.masked_fill(~torch.from_numpy(tissue).to(cells.device)[..., None], -math.inf)
        self.sum_q += float(torch.sigmoid(cells).sum((1, 2)).cpu().double().sum())
        self.largest_margin = max(self.largest_margin, float(cells.max()))
        log_q = torch.where(cells > -math.inf, self.alpha * F.logsigmoid(cells), -math.inf)  # alpha 0 counts pixels
        self._scatter(x_px, y_px, log_q.logsumexp(-1).cpu().numpy())

    def add_constant(self, x_px: int, y_px: int, shape: tuple[int, int], q: float) -> None:
        """Take in a region of (h, w) pixels on which Q is the same everywhere; no pixel is computed."""
        cells = (-(-shape[0] // self.map_stride), -(-shape[1] // self.map_stride))
        pixels = np.outer(self._extent(y_px, cells[0], 1), self._extent(x_px, cells[1], 0))
        pixels = pixels * self._tissue(x_px, y_px, cells)  # (rows, columns)
        if pixels.any():
            self.sum_q += q * float(pixels.sum())
            self.largest_margin = max(self.largest_margin, math.log(q / (1 - q)))
            with np.errstate(divide="ignore"):
                self._scatter(x_px, y_px, np.log(pixels) + self.alpha * math.log(q))

    def finish(self) -> ProbabilityMap:
        occupied = [(corner, cells) for corner, cells in sorted(self._tiles.items()) if cells.max() > -math.inf]
        if not occupied:
            raise ValueError(f"{self.slide_id}: no tile holds tissue; pass tissue=None to use the whole slide")
        tops = np.array([cells.max() for _, cells in occupied], np.float64)
        masses = [np.exp(cells - top, dtype=np.float64).sum() for (_, cells), top in zip(occupied, tops, strict=True)]
        return ProbabilityMap(
            self.slide_id, self.size_px, self.mpp, self.alpha, self.map_stride, self.tile_size, self.weights_step,
            self.sum_q, self.largest_margin,
            origins_px=np.array([corner[::-1] for corner, _ in occupied], np.int32) * self.tile_size,
            log_mass=tops + np.log(masses),
            codes=np.stack([encode_cells(cells) for _, cells in occupied]),
        )  # fmt: skip

    def _scatter(self, x_px: int, y_px: int, log_cells: np.ndarray) -> None:
        """Put a region's cells into the map's tiles."""
        side = self.tile_size // self.map_stride
        top, left = y_px // self.map_stride, x_px // self.map_stride
        bottom, right = top + log_cells.shape[0], left + log_cells.shape[1]
        for row in range(top // side, -(-bottom // side)):
            for column in range(left // side, -(-right // side)):
                tile = self._tiles.setdefault((row, column), np.full((side, side), -np.inf, np.float32))
                rows = slice(max(top, row * side), min(bottom, (row + 1) * side))
                columns = slice(max(left, column * side), min(right, (column + 1) * side))
                part = log_cells[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
                tile[_shift(rows, -row * side), _shift(columns, -column * side)] = part

    def _extent(self, start_px: int, cells: int, axis: int) -> np.ndarray:
        """How many pixels of each cell lie inside the slide, along x (axis 0) or y (axis 1)."""
        return np.clip(self.size_px[axis] - start_px - np.arange(cells) * self.map_stride, 0, self.map_stride)

    def _tissue(self, x_px: int, y_px: int, cells: tuple[int, int]) -> np.ndarray:
        if self.tissue is None:
            return np.ones(cells, bool)
        (width, height), mask = self.size_px, self.tissue.shape
        rows = mask_index(self._middles(y_px, cells[0]), height, mask[0], self.cell_px)
        return self.tissue[np.ix_(rows, mask_index(self._middles(x_px, cells[1]), width, mask[1], self.cell_px))]

    def _middles(self, start_px: int, cells: int) -> np.ndarray:
        """The pixels in the middle of the cells."""
        return start_px + (np.arange(cells) + 0.5) * self.map_stride - 0.5


def default_map(
    slide_id: str,
    size_px: tuple[int, int],
    mpp: float,
    tissue: np.ndarray | None,
    alpha: float = 2.0,
    map_stride: int = 8,
    tile_size: int = 512,
    cell_px: float | None = None,
) -> ProbabilityMap:
    """The map of a slide that was never mapped: Q = 0.5 over the tissue, every pixel as likely as any other."""
    builder = ProbabilityMapBuilder(slide_id, size_px, mpp, tissue, alpha, map_stride, tile_size, -1, cell_px)
    for y_px in range(0, size_px[1], tile_size):
        for x_px in range(0, size_px[0], tile_size):
            shape = min(tile_size, size_px[1] - y_px), min(tile_size, size_px[0] - x_px)
            builder.add_constant(x_px, y_px, shape, 0.5)
    return builder.finish()


def encode_cells(log_cells: np.ndarray) -> np.ndarray:
    """Log masses of a tile's cells, -inf without tissue, as uint16 steps below the heaviest."""
    steps = np.maximum((log_cells - log_cells.max()) * ((TOP_CODE - 1) / NATS), 1 - TOP_CODE)
    return np.where(log_cells > -np.inf, TOP_CODE + np.rint(steps), 0).astype(np.uint16)


def decode_cells(codes: np.ndarray) -> np.ndarray:
    """Masses of a tile's cells relative to its heaviest one, float64; 0 where there is no tissue."""
    return np.where(codes > 0, np.exp((codes.astype(np.float64) - TOP_CODE) * (NATS / (TOP_CODE - 1))), 0.0)


def _shift(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _blocks(image: Tensor, side: int) -> Tensor:
    """(H, W) -> (H / side, W / side, side * side)."""
    height, width = image.shape
    return image.view(height // side, side, width // side, side).transpose(1, 2).flatten(2)


def _mapped_tensor(path: str | os.PathLike, name: str, shape: list[int]) -> np.ndarray:
    """One tensor of a safetensors file as a read-only memory map: its offset stands in the file's JSON header."""
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(header_size))[name]
    return np.memmap(path, np.uint16, "r", offset=8 + header_size + entry["data_offsets"][0], shape=tuple(shape))
