"""A whole-slide image read at the model's scale, not at the scanner's.

Two frames. `_l0`: pixels of the file's finest level, as OpenSlide and annotation files count them. `_px`: the *grid* of
the slide at a target mpp (um per pixel), whose pixel i covers level-0 [i * mpp / slide.mpp, (i + 1) * mpp / slide.mpp);
both start at the same corner. Points and sizes are (x, y) and (width, height), arrays (H, W, 3).
"""

import logging
import math
import os
from pathlib import Path
from types import TracebackType

import numpy as np
from openslide import OpenSlideError
from PIL import Image

from wsi_hf.slides.files import dicom_files, series_in, slide_name
from wsi_hf.slides.formats.mpp import MppError as MppError
from wsi_hf.slides.formats.mpp import find_mpp
from wsi_hf.slides.handles import SlideError, open_file, pool
from wsi_hf.slides.lattice import cuts, level_edges, power_of_two, reads

logger = logging.getLogger(__name__)

WHITE = (255, 255, 255)
LARGEST_UM = 300_000.0
"""No slide is longer: the largest glasses, of whole organs, have 200 mm."""
LEVEL_TOLERANCE = 0.02
"""A level coarser than the target by no more than this still counts as fine enough."""
BLOCK_PX = 256
"""Side of the blocks, on a fixed lattice of the grid, that resampled regions are put together from."""
READ_LIMIT_PX = 2048
"""Side of a window of a level that is read at once: memory does not grow with the region."""
FILTER, FILTER_SUPPORT = Image.Resampling.BICUBIC, 2.0


class Slide:
    """One slide, opened lazily, once a process; safe to share between threads, to fork with and to pickle.

    mpp is taken from, in this order: the argument; `openslide.mpp-x` and `-y`; PhysicalSizeX and -Y of OME-TIFF;
    `tiff.XResolution` and `-YResolution` with their unit; `fallback_mpp`. It is never guessed (not from the objective's
    power, not from a plain image's dpi).
    """

    def __init__(self, path: str | Path, mpp: float | None = None, *, fallback_mpp: float | None = None) -> None:
        """
        Args:
            path: anything OpenSlide opens, a folder of one DICOM slide, or a plain image.
            mpp: um per level-0 pixel; overrides the file's own.
            fallback_mpp: the same, used where the file does not say.
        """
        self.path = Path(path).absolute()  # the process may change its folder
        self._file = _dicom_file(self.path) if os.path.isdir(self.path) else self.path
        self.slide_id = slide_name(self.path)
        handle = pool().get(self._file)
        self.dimensions_l0: tuple[int, int] = handle.dimensions
        self.level_downsamples: tuple[float, ...] = tuple(handle.level_downsamples)
        self.level_dimensions: tuple[tuple[int, int], ...] = tuple(handle.level_dimensions)
        properties = handle.properties
        self.mpp, self.mpp_source = find_mpp(self.path.name, dict(properties), mpp, fallback_mpp)
        if max(self.dimensions_l0) * self.mpp > LARGEST_UM:
            width, height = self.dimensions_l0
            raise SlideError(
                f"{self.path.name} would be {max(width, height) * self.mpp / 1e3:.0f} mm long ({width} x {height} "
                f"pixels of {self.mpp:g} um, from {self.mpp_source}), longer than any glass: file or mpp are wrong"
            )
        self.bounds_l0 = (
            int(properties.get("openslide.bounds-x", 0)),
            int(properties.get("openslide.bounds-y", 0)),
            int(properties.get("openslide.bounds-width", self.dimensions_l0[0])),
            int(properties.get("openslide.bounds-height", self.dimensions_l0[1])),
        )
        """The part of level 0 that was scanned: (x, y, width, height)."""
        self._said_upsampling = False

    def size_px(self, mpp: float) -> tuple[int, int]:
        """(width, height) of the slide's grid at `mpp`; its last column and row may be covered only in part."""
        width, height = self.dimensions_l0
        return math.ceil(width * self.mpp / mpp - 1e-6), math.ceil(height * self.mpp / mpp - 1e-6)

    def read_region_px(self, origin_px: tuple[int, int], size_px: tuple[int, int], mpp: float) -> np.ndarray:
        """Read a rectangle of the grid at `mpp`: the nearest finer level, resampled with antialiasing.

        A pixel is computed from its true neighbours, also those outside the rectangle, and has the same value whatever
        rectangle it is read in: tiles join without a seam.

        Args:
            origin_px: (x, y) of the first pixel; may be negative.
            size_px: (width, height); may reach beyond the slide, where all is white.
            mpp: um per pixel of the grid.

        Returns:
            uint8, shape (height, width, 3).
        """
        level = self._level_for(mpp)
        shrink = round(mpp / self.mpp / self._scale(level), 9)  # level pixels a grid pixel
        block = READ_LIMIT_PX if shrink == 1 else min(BLOCK_PX, max(1, int(power_of_two(READ_LIMIT_PX / shrink))))
        at_once = block * max(1, int(READ_LIMIT_PX / shrink) // block)  # what one read of the level covers
        (x, y), (width, height) = origin_px, size_px
        region = np.empty((height, width, 3), np.uint8)
        for top, bottom in cuts(y, y + height, at_once, y // block * block):
            for left, right in cuts(x, x + width, at_once, x // block * block):
                part = region[top - y : bottom - y, left - x : right - x]
                self._read_part((left, top, right, bottom), level, shrink, block, part)
        return region

    def read_patch(self, center_l0: tuple[float, float], size_px: int, mpp: float) -> np.ndarray:
        """Read the square patch round a level-0 point; beyond the slide's border it is white and keeps its centre.

        The patch lies on the slide's grid: the pixel that holds the point becomes pixel [size_px // 2, size_px // 2].

        Args:
            center_l0: (x, y) in level-0 pixels.
            size_px: side of the patch in pixels at `mpp`.
            mpp: um per pixel of the patch.

        Returns:
            uint8, shape (size_px, size_px, 3).
        """
        x, y = (math.floor(c * self.mpp / mpp + 1e-6) - size_px // 2 for c in center_l0)
        return self.read_region_px((x, y), (size_px, size_px), mpp)

    def thumbnail(self, max_size: int = 1024) -> np.ndarray:
        """The whole slide, its longer side `max_size` pixels; uint8, shape (H, W, 3)."""
        mpp = self.mpp * max(1.0, max(self.dimensions_l0) / max_size)
        return self.read_region_px((0, 0), self.size_px(mpp), mpp)

    def close(self) -> None:
        """Close the file in this process; a later read opens it again."""
        pool().drop(self._file)

    def __enter__(self) -> "Slide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, mpp={self.mpp:g})"

    def _level_for(self, mpp: float) -> int:
        """The coarsest level that is at least as fine as `mpp`; level 0, upsampled, where there is none."""
        wanted = mpp / self.mpp * (1 + LEVEL_TOLERANCE)
        fine = [level for level in range(len(self.level_downsamples)) if self._scale(level) <= wanted]
        if not fine and not self._said_upsampling:
            self._said_upsampling = True
            logger.warning("%s is scanned at %g um/px; reading it at %g upsamples", self.slide_id, self.mpp, mpp)
        return max(fine, key=self._scale, default=0)

    def _scale(self, level: int) -> float:
        """Level-0 pixels a pixel of the level.

        OpenSlide divides the sizes of the levels and so reports 2.0005 where every level is half the one before less an
        odd row: marks would drift by some pixels towards the far corner. A whole number that explains both sizes is
        meant.
        """
        downsample = self.level_downsamples[level]
        scale = max(1, round(downsample))
        sizes = zip(self.dimensions_l0, self.level_dimensions[level], strict=True)
        return scale if all(abs(size_l0 / scale - size) < 1 for size_l0, size in sizes) else downsample

    def _read_part(
        self, box_px: tuple[int, int, int, int], level: int, shrink: float, block: int, part: np.ndarray
    ) -> None:
        """Read (left, top, right, bottom) at once and resample it from `level`, block by block, into `part`."""
        left, top, right, bottom = box_px
        if shrink == 1:
            part[:] = self._read_level((left, top), (right - left, bottom - top), level)
            return
        margin = math.ceil(FILTER_SUPPORT * max(shrink, 1)) + 1
        columns = [(cut, level_edges(*cut, shrink, block)) for cut in cuts(left, right, block)]
        rows = [(cut, level_edges(*cut, shrink, block)) for cut in cuts(top, bottom, block)]
        x, y = (math.floor(cuts[0][1][0]) - margin for cuts in (columns, rows))
        width, height = (math.ceil(cuts[-1][1][1]) + margin - start for cuts, start in ((columns, x), (rows, y)))
        window = self._read_level((x, y), (width, height), level)
        # one axis at a time: Pillow would take the order, and round between, by the shape of the window
        for (x0, x1), (x0_level, x1_level) in columns:
            narrow = window.resize((x1 - x0, height), FILTER, box=(x0_level - x, 0, x1_level - x, height))
            for (y0, y1), (y0_level, y1_level) in rows:
                pixels = narrow.resize((x1 - x0, y1 - y0), FILTER, box=(0, y0_level - y, x1 - x0, y1_level - y))
                part[y0 - top : y1 - top, x0 - left : x1 - left] = pixels

    def _read_level(self, origin: tuple[int, int], size: tuple[int, int], level: int) -> Image.Image:
        """Read a window of one level, given in pixels of that level, onto white."""
        canvas = Image.new("RGB", size, WHITE)
        downsample = self.level_downsamples[level]
        for (x, y), part in reads(origin, size, self.level_dimensions[level], whole=downsample % 1 == 0):
            image = self._read_openslide((round(x * downsample), round(y * downsample)), part, level)
            if part == size and image.getchannel("A").getextrema() == (255, 255):
                return image.convert("RGB")
            canvas.paste(image, (x - origin[0], y - origin[1]), image)
        return canvas

    def _read_openslide(self, origin_l0: tuple[int, int], size: tuple[int, int], level: int) -> Image.Image:
        try:
            handle = pool().get(self._file)
            if handle.dimensions != self.dimensions_l0:
                raise SlideError(f"{self.path.name} was replaced by another slide since it was opened ({self.path})")
            return handle.read_region(origin_l0, level, size)
        except (OpenSlideError, OSError):
            # the handle fails for ever, in all threads: another's read may have been the bad one
            pool().drop(self._file)
        try:
            with open_file(self._file) as handle:
                return handle.read_region(origin_l0, level, size)
        except (OpenSlideError, OSError) as error:
            raise SlideError(
                f"{self.path.name}: reading {size[0]} x {size[1]} pixels of level {level} at level-0 {origin_l0} "
                f"failed ({error}); the file may be truncated or damaged: copy it again or leave it out ({self.path})"
            ) from error


def _dicom_file(folder: Path) -> Path:
    files = dicom_files(folder)
    if not files:
        raise SlideError(f"{folder.name}: a folder without DICOM files (*.dcm) is not a slide; pass a file ({folder})")
    if len(series := series_in(folder)) > 1:
        first = ", ".join(names[0].name for names in series.values())
        raise SlideError(f"{folder.name} holds {len(series)} DICOM slides; pass a file of each: {first} ({folder})")
    return files[0]  # OpenSlide finds the other files of the series beside it
