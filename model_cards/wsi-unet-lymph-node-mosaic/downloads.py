"""What came from the Hub: of which commit it is, and whether it is what the Hub announced."""

import hashlib
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from transformers import PreTrainedModel

READ_BYTES = 2**22


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
        ChecksumError: a file does not have the checksum that the Hub announced. It is removed from the cache.
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
    """Compare a cached file with its checksum, which is the name of the blob that it links to.

    Args:
        path: in a snapshot of the cache. A file that is no link (on systems without links) cannot be checked.
        what: how an error speaks of it.
    """
    if not path.is_symlink():
        return
    blob = path.resolve()
    expected = blob.name
    if len(expected) == 64:
        digest = hashlib.sha256()
    elif len(expected) == 40:  # git's own
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size)
    else:
        return
    with open(blob, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    if digest.hexdigest() != expected:
        path.unlink()
        blob.unlink()
        raise ChecksumError(
            f"{what} has the checksum {digest.hexdigest()[:12]}, not {expected[:12]} as the Hub announced: it was "
            "damaged or replaced on its way. It was removed from the cache; load the model again"
        )
