"""The probability map as OME-Zarr 0.5: a pyramid that napari, xarray and every reader of the standard open.

    probabilities.ome.zarr/             the group: multiscales, scale in um
      probabilities  y  x               the map and where its pixels' centres lie, in um; xarray opens the group
      1/probabilities  1/y  1/x         its half, and so on
    probabilities.zarr                  a link to the map itself

Each level is a group of its own because arrays of one group share their dimensions' sizes in xarray.
"""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.multiscales import Dataset, Multiscale
from zarr.codecs import BloscCodec

ARRAY = "probabilities"
CHUNK = 1024
SMALLEST = 512
"""Levels are added until the shorter side is at most this."""


def write_ome_zarr(path: Path, array_path: Path, mpp: float, name: str) -> None:
    """Turn a map into the finest level of an OME-Zarr pyramid, and leave a link where it was.

    Reads and writes a small region at a time.

    Args:
        path: of the new group, beside the map.
        array_path: folder of the map's zarr array, P(malignant) (H, W).
        mpp: um per pixel of the map.
        name: what the image is called.
    """
    group = zarr.create_group(path, zarr_format=3)
    array_path.rename(path / ARRAY)
    _link(array_path, path / ARRAY)
    level, datasets = _array(group, ARRAY), list[Dataset]()
    while True:
        number = len(datasets)
        here = group if not number else group.require_group(str(number))
        if number:
            level = _half(level, here)
        spacing, first = mpp * 2**number, mpp * (2**number - 1) / 2  # centre of a pixel of 2 x 2 finer ones
        _write_axes(here, level.shape, spacing, first + mpp / 2)
        datasets.append(
            Dataset.build(
                path=f"{number}/{ARRAY}" if number else ARRAY,
                scale=[spacing, spacing],
                translation=[first, first] if number else None,
            )
        )
        if min(level.shape) <= SMALLEST:
            break
    group.attrs["ome"] = _attributes(datasets, name)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # not in zarr's specification yet
        zarr.consolidate_metadata(group.store)  # xarray asks for it


def open_level(path: Path, number: int) -> zarr.Array:
    """A level of a pyramid: the map, its half, its quarter, ..."""
    return zarr.open_array(path / (f"{number}/{ARRAY}" if number else ARRAY), mode="r")


def _attributes(datasets: list[Dataset], name: str) -> dict[str, Any]:
    axes = tuple(Axis(name=axis, type="space", unit="micrometer") for axis in "yx")
    image = Multiscale(axes=axes, datasets=tuple(datasets), name=name, type="mean")
    return ImageAttrs(version="0.5", multiscales=[image]).model_dump(mode="json", exclude_none=True)


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _half(fine: zarr.Array, group: zarr.Group) -> zarr.Array:
    """Average 2 x 2 pixels (an odd last row or column is left out), a chunk at a time; empty ones are not stored."""
    height, width = fine.shape[0] // 2, fine.shape[1] // 2
    half = group.create_array(
        ARRAY,
        shape=(height, width),
        chunks=(min(height, CHUNK), min(width, CHUNK)),
        dtype="float32",
        fill_value=0.0,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        dimension_names=("y", "x"),
    )
    for top in range(0, height, CHUNK):
        for left in range(0, width, CHUNK):
            bottom, right = min(height, top + CHUNK), min(width, left + CHUNK)
            p = np.asarray(fine[2 * top : 2 * bottom, 2 * left : 2 * right])
            half[top:bottom, left:right] = (p[0::2, 0::2] + p[1::2, 0::2] + p[0::2, 1::2] + p[1::2, 1::2]) / 4
    return half


def _write_axes(group: zarr.Group, shape: tuple[int, ...], spacing: float, first: float) -> None:
    """Write the centres of rows and columns in um from the slide's corner."""
    for axis, size in zip("yx", shape, strict=True):
        centres = first + spacing * np.arange(size)
        group.create_array(axis, data=centres, dimension_names=(axis,), attributes={"units": "micrometer"})


def _link(path: Path, target: Path) -> None:
    """Let `path` lead to `target` beside it; a copy where the file system knows no links."""
    try:
        path.symlink_to(target.relative_to(path.parent), target_is_directory=True)
    except OSError:
        shutil.copytree(target, path)
