"""Open slide files, shared by every `Slide` of a process: few file descriptors, one tile cache, one set a process.

An OpenSlide handle may be read by many threads, but must not cross a fork, and fails for ever after one failed read.
The pool therefore starts empty in a forked child, and `drop` makes the next read open the file anew.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

import openslide
from openslide import AbstractSlide
from PIL import ExifTags, Image

from wsi_hf.slides.damaged import STUMBLES
from wsi_hf.slides.formats.images import PixelError, rgba
from wsi_hf.slides.formats.tiff import MAGIC, check_tiles, open_planar


class SlideError(RuntimeError):
    """A slide that cannot be opened or read; the message names the slide and what to do."""


class HandlePool:
    """The most recently used handles of a process, with one cache of decoded tiles for all of them."""

    def __init__(self, max_open: int = 64, cache_bytes: int = 256 * 2**20) -> None:
        """
        Args:
            max_open: files kept open; one more closes the least recently read.
            cache_bytes: decoded pixels kept for all slides together, 4 bytes a pixel.
        """
        self.max_open = max_open
        self.cache_bytes = cache_bytes
        self._cache: openslide.OpenSlideCache | None = None
        self._open: OrderedDict[Path, tuple[tuple[int, int] | None, AbstractSlide]] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path) -> AbstractSlide:
        """The handle of `path`, opened if need be, and anew if the file was replaced since (another size or time).

        An evicted one closes when its last reader lets go.
        """
        stamp = file_stamp(path)
        with self._lock:
            found = self._open.get(path)
            if found is None or (stamp is not None and found[0] != stamp):
                found = self._open[path] = stamp, self._open_file(path)
                while len(self._open) > self.max_open:
                    self._open.popitem(last=False)
            self._open.move_to_end(path)
            return found[1]

    def drop(self, path: Path) -> None:
        """Forget the handle of `path`, if there is one."""
        with self._lock:
            self._open.pop(path, None)

    def clear(self) -> None:
        """Forget all handles and cached pixels."""
        with self._lock:
            self._open.clear()
            self._cache = None

    def __len__(self) -> int:
        return len(self._open)

    def _open_file(self, path: Path) -> AbstractSlide:
        handle = open_file(path)
        if self._cache is None:
            self._cache = openslide.OpenSlideCache(self.cache_bytes)
        handle.set_cache(self._cache)
        return handle


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, by which one that was replaced is told; None where it is not there."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def open_file(path: Path) -> AbstractSlide:
    """Open a slide with OpenSlide, a plain image (PNG, JPEG) with Pillow, an OME-TIFF of three images with tifffile."""
    reason: str | BaseException
    try:
        with open(path, "rb") as file:  # and for the operating system's own words on a missing or forbidden file
            is_tiff = file.read(4) in MAGIC
        return _open_file(path, is_tiff)
    except FileNotFoundError:
        reason = "there is no such file; check the path"
    except PermissionError:
        reason = "no permission to read it; check the file's owner and mode"
    except Image.UnidentifiedImageError:
        reason = "not a slide that OpenSlide knows, nor a plain image, or cut off; copy it again or leave it out"
    except Image.DecompressionBombError:
        most = round(2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6)
        reason = f"a plain image of more than {most} million pixels; convert it to a pyramidal TIFF in tiles"
    except PixelError as error:
        reason = error
    except (openslide.OpenSlideError, *STUMBLES) as error:
        reason = f"it cannot be opened ({error}); the file may be truncated or damaged: copy it again or leave it out"
    raise SlideError(f"{path.name}: {reason} ({path})")


class PlainImage(openslide.ImageSlide):
    """A plain image as a slide of one level; of its metadata only the description is kept, for OME-TIFF's sake."""

    def __init__(self, path: Path) -> None:
        with Image.open(path) as image:
            self._description = str(image.getexif().get(ExifTags.Base.ImageDescription, ""))
            super().__init__(rgba(image))

    @property
    def properties(self) -> Mapping[str, str]:
        return {"tiff.ImageDescription": self._description}


def _open_file(path: Path, is_tiff: bool) -> AbstractSlide:
    vendor = openslide.OpenSlide.detect_format(str(path))
    if is_tiff and vendor in (None, "generic-tiff") and (planar := open_planar(path)):
        return planar
    if vendor is None:
        return PlainImage(path)
    handle = openslide.OpenSlide(str(path))
    check_tiles(dict(handle.properties))
    return handle


_pool = HandlePool()
_of_parents: list[HandlePool] = []  # a child must not close its parent's handles: kept, never used


def pool() -> HandlePool:
    """This process's pool."""
    return _pool


def configure_handles(max_open: int = 64, cache_bytes: int = 256 * 2**20) -> None:
    """Set how many slides this process keeps open and how many bytes of decoded pixels it keeps for all of them."""
    _pool.clear()
    _pool.max_open, _pool.cache_bytes = max_open, cache_bytes


def _forget_parent() -> None:
    global _pool
    _of_parents.append(_pool)
    _pool = HandlePool(_pool.max_open, _pool.cache_bytes)


_register: Callable[..., None] | None = getattr(os, "register_at_fork", None)  # absent on Windows
if _register is not None:
    _register(after_in_child=_forget_parent)
