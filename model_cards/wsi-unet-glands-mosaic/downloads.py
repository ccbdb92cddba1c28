"""What a model is loaded from: nothing outside its folder; and from the Hub, of which commit, and as announced."""

import hashlib
import json
import os
import re
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from transformers import PreTrainedModel

READ_BYTES = 2**22
INDEX = "model.safetensors.index.json"


class ChecksumError(OSError):
    """A downloaded file is not the one that the Hub announced."""


def note_download(
    model: PreTrainedModel, name: str | Path | None, revision: str | None = None, cache_dir: str | Path | None = None
) -> None:
    """Check the files that a model was loaded from, and note their commit as `model.config._commit_hash`.

    Args:
        model: just loaded; one from a local folder is left alone.
        name, revision, cache_dir: as it was asked for.

    Raises:
        ChecksumError: a file does not have the SHA-256 that the Hub announced.
    """
    if name is None or Path(name).exists():
        return
    snapshots = _snapshots(str(name), getattr(revision, "resolved", revision), cache_dir)
    for snapshot in snapshots:
        for path in sorted(snapshot.rglob("*")):
            if path.is_file():
                check_file(path, f"{path.relative_to(snapshot)} of {name}")
    if len(snapshots) == 1:
        model.config._commit_hash = snapshots[0].name


def _snapshots(name: str, commit: str | None, cache_dir: str | Path | None) -> list[Path]:
    """The cached copy that was loaded; all of the repository's where that cannot be told."""
    config = try_to_load_from_cache(name, "config.json", cache_dir=cache_dir, revision=commit)
    if isinstance(config, str):
        return [Path(config).parent]
    folder = Path(cache_dir or constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    return sorted(folder.glob("*"))


def check_file(path: Path, what: str) -> None:
    """Compare a cached file with its SHA-256, which is the name of the blob that it links to.

    That is certain of large files alone: 64 digits. The 40 digits of a small one are git's hash on the Hub, and the
    SHA-1 of the content, or anything else, on mirrors. The cache is huggingface_hub's, and nothing in it is changed.

    Args:
        path: in a snapshot of the cache. A file that is no link (on systems without links) cannot be checked.
        what: how an error speaks of it.
    """
    if not path.is_symlink() or not re.fullmatch(r"[0-9a-f]{64}", path.resolve().name):
        return
    blob, digest = path.resolve(), hashlib.sha256()
    with open(blob, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    if digest.hexdigest() != blob.name:
        raise ChecksumError(
            f"{what} has the checksum {digest.hexdigest()[:12]}, not {blob.name[:12]} as the Hub announced: it was "
            "damaged or replaced, on its way or in the cache. Load it anew with `hf download --force-download`"
        )


def check_index(folder: str | os.PathLike[str] | None) -> None:
    """Refuse a folder whose index of weights names files that lie elsewhere: they are not of this model.

    Args:
        folder: that a model is about to be loaded from; anything but a folder is left alone.

    Raises:
        ValueError: the index is damaged, or names such a file.
    """
    path = Path(folder or "") / INDEX
    if folder is None or not path.is_file():
        return
    try:
        named = set(json.loads(path.read_bytes())["weight_map"].values())
        outside = sorted(name for name in named if name != Path(name).name or "\\" in name)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); save the model again") from error
    if outside:
        raise ValueError(f"{path} names files outside its folder ({outside[0]}); save the model again")
