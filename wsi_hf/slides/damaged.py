"""Foreign bytes: whatever a reader of them stumbles over becomes one error that names the file."""

import errno
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from types import UnionType
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import shapely
from safetensors import SafetensorError

Facts = TypeVar("Facts")
STUMBLES = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, RecursionError, MemoryError),
    *(NotImplementedError, SyntaxError, RuntimeError, AssertionError, OSError),
    *(struct.error, zlib.error, zipfile.BadZipFile, SafetensorError, shapely.errors.ShapelyError),
)
"""What parsers raise on bytes that are not what they take them for."""


class DamagedFileError(ValueError):
    """A file that is damaged, or not what its name says; the message names it."""


@contextmanager
def reading(path: str | PathLike[str], what: str, way_out: str = "copy it again or remove it") -> Iterator[None]:
    """Read `path` inside; an error of the bytes comes out as a `DamagedFileError`, one of the system as it is.

    Args:
        path: the file.
        what: it should be, such as "a map of this package".
        way_out: what to do.
    """
    try:
        yield
    except (DamagedFileError, FileNotFoundError, PermissionError):
        raise
    except STUMBLES as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a place that the bytes made up
            raise
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise DamagedFileError(f"{path} is not {what}, or is damaged ({said}); {way_out}") from error


def check_types(facts: Facts) -> Facts:
    """Give back a dataclass, or refuse one read from JSON whose numbers, words or lists are something else.

    Raises:
        TypeError: names the field.
    """
    for name, kind in get_type_hints(type(facts)).items():
        value = getattr(facts, name)
        kinds = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
        plain = tuple(type(get_args(k)[0]) if get_origin(k) is Literal else get_origin(k) or k for k in kinds)
        plain += (int,) if float in plain else ()
        if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
            raise TypeError(f"{name} is {value!r:.40}")
        if isinstance(value, float) and math.isnan(value):
            raise TypeError(f"{name} is not a number")
    return facts
