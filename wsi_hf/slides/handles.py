"""Open slide files, shared by every `Slide` of a process: few file descriptors, one tile cache, one set a process.

An OpenSlide handle may be read by many threads, but must not cross a fork, and fails for ever after one failed read.
The pool therefore starts empty in a forked child, and `drop` makes the next read open the file anew.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import openslide
from openslide import AbstractSlide
from PIL import Image


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
        self._open: OrderedDict[Path, AbstractSlide] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path) -> AbstractSlide:
        """The handle of `path`, opened if need be; an evicted one closes when its last reader lets go."""
        with self._lock:
            handle = self._open.get(path)
            if handle is None:
                handle = self._open[path] = self._open_file(path)
                while len(self._open) > self.max_open:
                    self._open.popitem(last=False)
            self._open.move_to_end(path)
            return handle

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


def open_file(path: Path) -> AbstractSlide:
    """Open a slide with OpenSlide, or a plain image (PNG, JPEG) with Pillow."""
    reason: str | Exception
    try:
        with open(path, "rb"):  # for the operating system's own words on a missing or forbidden file
            pass
        if openslide.OpenSlide.detect_format(str(path)) is None:
            return openslide.ImageSlide(Image.open(path).convert("RGBA"))
        return openslide.OpenSlide(str(path))
    except FileNotFoundError:
        reason = "there is no such file; check the path"
    except PermissionError:
        reason = "no permission to read it; check the file's owner and mode"
    except Image.UnidentifiedImageError:
        reason = "not a slide that OpenSlide knows, nor a plain image, or cut off; copy it again or leave it out"
    except (OSError, openslide.OpenSlideError, Image.DecompressionBombError) as error:
        reason = f"it cannot be opened ({error}); the file may be truncated or damaged: copy it again or leave it out"
    raise SlideError(f"{path.name}: {reason} ({path})")


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
