"""Draws lymph-node-like tissue in H&E: what the synthetic cohort's slides show.

Two stains become colour by Beer and Lambert's law. Both classes share one recipe; only islands of tumour differ, and
histiocytes and germinal centres are as pale and pink as tumour, so that colour tells little.
"""

import bisect
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from PIL import Image
from scipy import ndimage

CELL_UM = 2.0
"""Regions and outlines are drawn on a grid of this, nuclei at the slide's own resolution."""
SMALLEST_ISLAND_UM2 = 600.0
"""Less than two or three tumour cells is no island."""


class Region(IntEnum):
    GLASS, LYMPHOCYTES, MANTLE, CENTRE, HISTIOCYTES, FIBRES, TUMOUR = range(7)


EOSIN = np.array([0.0, 0.30, 0.20, 0.34, 0.30, 0.95, 0.28], np.float32)
"""Eosin between the nuclei of each region."""
HAEMATOXYLIN = np.array([0.0, 0.10, 0.16, 0.12, 0.08, 0.06, 0.20], np.float32)


@dataclass(frozen=True)
class Nucleus:
    """What the nuclei of one kind look like; lengths in um, haematoxylin in the units of `EOSIN`."""

    diameter: tuple[float, float]
    longest: float  # largest ratio of length to width
    irregular: float  # amplitude of the outline's waves
    inside: float
    rim: float
    grain: float
    nucleolus: float = 0.0  # chance of a nucleolus


LYMPHOCYTE = Nucleus((6.0, 7.6), 1.2, 0.03, inside=1.45, rim=1.6, grain=0.25)
CENTROBLAST = Nucleus((7.5, 9.0), 1.3, 0.05, inside=1.15, rim=1.35, grain=0.25)
HISTIOCYTE = Nucleus((6.5, 8.5), 1.7, 0.06, inside=0.65, rim=0.75, grain=0.15)
SPINDLE = Nucleus((6.0, 8.0), 3.5, 0.03, inside=1.20, rim=1.30, grain=0.15)
TUMOUR_CELL = Nucleus((14.0, 19.0), 1.4, 0.10, inside=0.70, rim=1.50, grain=0.35, nucleolus=0.9)

# (nucleus, spacing in um, {region: share of places taken})
POPULATIONS: tuple[tuple[Nucleus, float, dict[Region, float]], ...] = (
    (LYMPHOCYTE, 7.8, {Region.LYMPHOCYTES: 0.85, Region.CENTRE: 0.10, Region.HISTIOCYTES: 0.12, Region.TUMOUR: 0.02}),
    (LYMPHOCYTE, 6.6, {Region.MANTLE: 0.95}),
    (CENTROBLAST, 9.5, {Region.CENTRE: 0.9, Region.LYMPHOCYTES: 0.02}),
    (HISTIOCYTE, 14.0, {Region.HISTIOCYTES: 0.9, Region.LYMPHOCYTES: 0.04}),
    (SPINDLE, 13.0, {Region.FIBRES: 0.7}),
    (TUMOUR_CELL, 18.0, {Region.TUMOUR: 0.97}),
)
CYTOPLASM: dict[Region, tuple[float, float]] = {Region.TUMOUR: (22.0, 0.36), Region.HISTIOCYTES: (15.0, 0.52)}
"""Cell bodies drawn round the nuclei of a region: (diameter in um, eosin)."""


def draw_slide(
    rng: np.random.Generator, size_um: float, mpp: float, tumour_share: float | None, multiple: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one slide.

    Args:
        rng: source of all that is random in it.
        size_um: side of the slide.
        mpp: um per pixel of the picture.
        tumour_share: share of the tissue that is tumour; None for a benign slide.
        multiple: the sides are cut to a multiple of this many pixels.

    Returns:
        (picture, truth): uint8 (H, W, 3), and where the tumour is: bool, cells of CELL_UM.
    """
    regions = draw_regions(rng, round(size_um / CELL_UM), tumour_share)
    size_px = int(size_um / mpp) // multiple * multiple
    haematoxylin, eosin = _ground(rng, regions, size_px, mpp)
    tissue = _enlarge(ndimage.gaussian_filter((regions != Region.GLASS).astype(np.float32), 0.6), size_px, mpp)
    for nucleus, spacing, places in POPULATIONS:
        xy, at = _places(rng, regions, spacing, places)
        if nucleus is TUMOUR_CELL or nucleus is HISTIOCYTE:
            region = Region.TUMOUR if nucleus is TUMOUR_CELL else Region.HISTIOCYTES
            _stamp(eosin, xy[at == region] / mpp, _bodies(rng, *CYTOPLASM[region], mpp), rng)
        _stamp(haematoxylin, xy / mpp, [_nucleus(rng, nucleus, mpp) for _ in range(32)], rng)
    return _stain(rng, haematoxylin * tissue, eosin * tissue), regions == Region.TUMOUR


def draw_regions(rng: np.random.Generator, n: int, tumour_share: float | None) -> np.ndarray:
    """What lies where: a `Region` a cell of CELL_UM, uint8, shape (n, n)."""
    tissue = _tissue(rng, n)
    regions = np.where(tissue, Region.LYMPHOCYTES, Region.GLASS).astype(np.uint8)
    wobble = _noise(rng, n, 30.0)
    for x, y, radius in zip(*_spots(rng, tissue, max(1, round(2.5 * tissue.sum() * CELL_UM**2 / 350e3))), strict=True):
        reach = _distance(n, x, y) / (radius / CELL_UM) + 0.08 * wobble
        regions[tissue & (reach < 1)] = Region.MANTLE
        regions[tissue & (reach < rng.uniform(0.55, 0.75))] = Region.CENTRE
    regions[_islands(rng, tissue, rng.uniform(0.01, 0.06))] = Region.HISTIOCYTES
    septa = np.abs(_noise(rng, n, 140.0)) < rng.uniform(0.03, 0.07)
    capsule = tissue & ~ndimage.binary_erosion(tissue, iterations=int(rng.integers(1, 7)))
    regions[tissue & (septa | capsule)] = Region.FIBRES
    if tumour_share is not None:
        regions[_islands(rng, tissue, tumour_share)] = Region.TUMOUR
    return regions


def _tissue(rng: np.random.Generator, n: int) -> np.ndarray:
    """A rounded outline with a few holes, clear of the border."""
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j]
    angle = np.arctan2(y, x)
    radius = 0.80 + sum(rng.normal(0, 0.05) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4, 5))
    tissue = np.hypot(x, y) + 0.02 * _noise(rng, n, 40.0) < np.minimum(radius, 0.96)
    wobble = 0.15 * _noise(rng, n, 20.0)
    for hole_x, hole_y, radius in zip(*_spots(rng, tissue, rng.integers(0, 6)), strict=True):
        tissue &= _distance(n, hole_x, hole_y) / (0.35 * radius / CELL_UM) + wobble > 1
    return tissue


def _spots(
    rng: np.random.Generator, inside: np.ndarray, count: int | np.integer
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, y, radius in um) of `count` round things inside."""
    cells = np.argwhere(inside)
    y, x = cells[rng.integers(len(cells), size=count)].T
    return x, y, rng.uniform(45, 100, size=count)


def _islands(rng: np.random.Generator, inside: np.ndarray, share: float) -> np.ndarray:
    """One to four irregular islands that cover `share` of what is inside."""
    n, smallest = len(inside), SMALLEST_ISLAND_UM2 / CELL_UM**2
    wanted = max(smallest, share * inside.sum())
    count = min(rng.integers(1, 5), max(1, wanted // (3 * smallest)))  # few where little is wanted: specks are dropped
    spots = zip(*_spots(rng, inside, int(count)), strict=True)
    nearest = np.min([_distance(n, x, y) / radius for x, y, radius in spots], axis=0)
    height = 0.12 * _noise(rng, n, 35.0) - nearest
    heights = np.sort(height[inside])[::-1]

    def above(rank: int) -> np.ndarray:
        return _without_specks(ndimage.binary_opening(inside & (height >= heights[rank]), iterations=2))

    # smoothing and dropping specks costs area: find the height at which enough is left
    rank = bisect.bisect_left(range(len(heights)), wanted, key=lambda rank: above(rank).sum())
    return above(min(rank, len(heights) - 1))


def _without_specks(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    area = np.bincount(labels.ravel()) * CELL_UM**2
    area[0] = 0
    return area[labels] >= SMALLEST_ISLAND_UM2


def _ground(rng: np.random.Generator, regions: np.ndarray, size_px: int, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    """Haematoxylin and eosin between the nuclei: each region's own, fibrous and grainy."""
    n = len(regions)
    grain = rng.standard_normal((n, n), np.float32)
    along, across = ndimage.gaussian_filter(grain, (0.8, 2.5)), ndimage.gaussian_filter(grain, (2.5, 0.8))
    fibres = np.where(_noise(rng, n, 120.0) > 0, along, across)
    fibres /= fibres.std()
    eosin = ndimage.gaussian_filter(EOSIN[regions], 0.8) * np.clip(1 + 0.22 * fibres, 0.2, 2)
    haematoxylin = ndimage.gaussian_filter(HAEMATOXYLIN[regions], 0.8) * np.clip(1 + 0.3 * grain, 0, 2)
    return _enlarge(haematoxylin, size_px, mpp), _enlarge(eosin, size_px, mpp)


def _places(
    rng: np.random.Generator, regions: np.ndarray, spacing: float, places: dict[Region, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Places of nuclei on a jittered hexagonal lattice: (x, y) in um, shape (n, 2), and the region of each."""
    side = len(regions) * CELL_UM
    rows, columns = np.mgrid[0 : side : spacing * 0.866, 0:side:spacing]
    columns = columns + spacing / 2 * (np.arange(len(columns)) % 2)[:, None]
    xy = np.stack([columns.ravel(), rows.ravel()], axis=1) + rng.normal(0, 0.13 * spacing, (columns.size, 2))
    xy = xy[((xy > 0) & (xy < side)).all(axis=1)]
    at = regions[tuple((xy[:, ::-1] / CELL_UM).astype(int).T)]
    taken = np.zeros(len(Region))
    taken[list(places)] = list(places.values())
    keep = rng.random(len(xy)) < taken[at]
    return xy[keep], at[keep]


def _nucleus(rng: np.random.Generator, kind: Nucleus, mpp: float) -> np.ndarray:
    """One nucleus: an irregular outline, a darker rim, grainy chromatin; haematoxylin, float32."""
    diameter, stretch = rng.uniform(*kind.diameter), np.sqrt(rng.uniform(1, kind.longest))
    side = int(diameter * stretch * 1.3 / mpp) + 4
    y, x = (np.mgrid[0:side, 0:side] - (side - 1) / 2) * mpp
    turn = rng.uniform(0, np.pi)
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / stretch, (y * np.cos(turn) - x * np.sin(turn)) * stretch
    angle = np.arctan2(v, u)
    waves = sum(rng.normal(0, kind.irregular) / (k - 1) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5))
    depth = diameter / 2 * (1 + waves) - np.hypot(u, v)  # um below the outline
    grain = ndimage.gaussian_filter(rng.standard_normal((side, side)), 0.7 / mpp)
    rim = (kind.rim - kind.inside) * np.exp(-((depth / 1.1) ** 2))
    density = kind.inside * (1 + kind.grain * grain / grain.std()) + rim
    if rng.random() < kind.nucleolus:
        far = np.hypot(u - rng.normal(0, diameter / 8), v - rng.normal(0, diameter / 8))
        density = np.maximum(density, 1.5 / (1 + np.exp((far - 1.3) / 0.3)))
    return (np.clip(density, 0, None) / (1 + np.exp(-depth / 0.3))).astype(np.float32)


def _bodies(rng: np.random.Generator, diameter: float, eosin: float, mpp: float) -> list[np.ndarray]:
    kind = Nucleus((0.9 * diameter, 1.1 * diameter), 1.2, 0.06, inside=eosin, rim=eosin, grain=0.1)
    return [_nucleus(rng, kind, mpp) for _ in range(16)]


def _stamp(canvas: np.ndarray, xy_px: np.ndarray, stamps: list[np.ndarray], rng: np.random.Generator) -> None:
    """Lay stamps over the canvas, each of its own strength; the darker of two wins."""
    strength = rng.uniform(0.85, 1.15, len(xy_px)).astype(np.float32)
    which = rng.integers(len(stamps), size=len(xy_px))
    for (x, y), s, w in zip(xy_px.astype(int).tolist(), strength, which.tolist(), strict=True):
        stamp = stamps[w]
        left, top = x - stamp.shape[1] // 2, y - stamp.shape[0] // 2
        place = canvas[max(0, top) : top + stamp.shape[0], max(0, left) : left + stamp.shape[1]]
        stamp = stamp[max(0, -top) :, max(0, -left) :][: place.shape[0], : place.shape[1]]
        np.maximum(place, s * stamp, out=place)


def _stain(rng: np.random.Generator, haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """Colour the concentrations with a stain, a strength and a lamp of the slide's own; uint8, shape (H, W, 3)."""
    h = np.array([0.65, 0.70, 0.29]) + rng.normal(0, 0.07, 3)
    e = np.array([0.12, 0.95, 0.28]) + rng.normal(0, 0.07, 3)
    h, e = h / np.linalg.norm(h) * np.exp(rng.normal(0, 0.12)), e / np.linalg.norm(e) * np.exp(rng.normal(0, 0.15))
    lamp = np.minimum(255, rng.normal(238, 6) + rng.normal(0, 2.5, 3))
    height, width = haematoxylin.shape
    noise = rng.normal(0, 2.0, (256, 256)).astype(np.float32)
    noise = np.tile(noise, (height // 256 + 1, width // 256 + 1))[:height, :width]
    image = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        light = np.exp(np.float32(-h[channel]) * haematoxylin - np.float32(e[channel]) * eosin)
        image[..., channel] = np.clip(np.float32(lamp[channel]) * light + noise, 0, 255)
    return image


def _noise(rng: np.random.Generator, n: int, scale_um: float) -> np.ndarray:
    """Smooth noise of unit variance with features of about `scale_um`, shape (n, n)."""
    coarse = rng.standard_normal((max(3, round(n * CELL_UM / scale_um) + 2),) * 2, np.float32)
    smooth = np.asarray(Image.fromarray(coarse).resize((n, n), Image.Resampling.BICUBIC))
    return smooth / coarse.std()


def _distance(n: int, x: float, y: float) -> np.ndarray:
    """Distance of every cell from cell (x, y), in cells; shape (n, n)."""
    return np.hypot(*np.ogrid[-y : n - y, -x : n - x])


def _enlarge(field: np.ndarray, size_px: int, mpp: float) -> np.ndarray:
    """Bring a field of CELL_UM to the picture's resolution."""
    side = size_px * mpp / CELL_UM
    image = Image.fromarray(field.astype(np.float32))
    return np.array(image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=(0, 0, side, side))).clip(0)
