"""A cohort on the Hub: labels, splits, checksums and relative paths of the slides, and no image."""

import hashlib
import os
from functools import wraps
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, DatasetInfo, Features, Value
from huggingface_hub import CommitInfo
from tqdm.auto import tqdm

from wsi_hf.slides.damaged import reading
from wsi_hf.slides.files import slide_files
from wsi_hf.slides.names import check_names

READ_BYTES = 2**22
ON_THE_HUB = {
    "path": Value("string"),
    "annotation": Value("string"),
    "bytes": Value("int64"),
    "sha256": Value("string"),
}


PUBLISHED = ("slide_id", "path", "label", "split", "annotation", "mpp", "exhaustive")
"""Columns of a cohort that are published; what users add may name this machine."""


class Cohort(Dataset):
    """A `datasets.Dataset` of slides that publishes their manifest, never where they lie."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        slides: str | Path | None = None,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str = "Upload manifest of slides",
    ) -> CommitInfo:
        """Publish slide_id, label, split, mpp, relative paths, sizes and SHA-256 of the slides; no image.

        Args:
            repo_id: organisation/name of a data set.
            slides: folder that the paths are relative to; by default the deepest one that holds all slides.
            private, token, revision, commit_message: as for `Dataset.push_to_hub`.
        """
        return manifest(self, slides).push_to_hub(
            repo_id, private=private, token=token, revision=revision, commit_message=commit_message
        )

    @classmethod
    def of(cls, rows: list[dict[str, Any]], features: Features, name: str | None, licence: str | None) -> "Cohort":
        """A cohort of rows; name and licence of the slides are for the cards of models trained on them."""
        info = DatasetInfo(features=features, dataset_name=name, license=licence or "")
        return cls.from_dict({key: [row[key] for row in rows] for key in features}, features=features, info=info)


STILL_COHORTS = (
    *("map", "filter", "select", "take", "skip", "sort", "shuffle", "shard", "train_test_split", "flatten_indices"),
    *("select_columns", "remove_columns", "rename_column", "rename_columns", "add_column", "add_item", "cast"),
    *("cast_column", "class_encode_column", "with_format", "repeat"),
)
"""What of `Dataset` would give a plain one, whose push publishes local paths."""


def _still_a_cohort(name: str) -> Any:
    method = getattr(Dataset, name)

    @wraps(method)
    def kept(self: Cohort, *args: Any, **kwargs: Any) -> Any:
        part = method(self, *args, **kwargs)
        if isinstance(part, DatasetDict):
            return DatasetDict({split: _cohort(rows) for split, rows in part.items()})
        return _cohort(part)

    return kept


def _cohort(part: Dataset) -> Dataset:
    part.__class__ = Cohort  # which holds nothing more
    return part


for _name in STILL_COHORTS:
    setattr(Cohort, _name, _still_a_cohort(_name))


def manifest(cohort: Dataset, slides: str | Path | None = None) -> DatasetDict:
    """What of a cohort is published, one split a `Dataset`.

    Args:
        cohort: with columns slide_id, path, label, split and others.
        slides: folder that paths become relative to; by default the deepest one that holds all slides.

    Raises:
        ValueError: a slide lies outside the folder.
    """
    root = Path(slides or os.path.commonpath([Path(path).absolute().parent for path in cohort["path"]])).absolute()
    kept = {name: kind for name, kind in cohort.features.items() if name in PUBLISHED}
    features = Features({**{name: kind for name, kind in kept.items() if name != "split"}, **ON_THE_HUB})
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in tqdm(cohort, desc="Checksums", unit="slide"):
        size, digest = checksum(Path(row["path"]))
        outline = row.get("annotation")
        published = {name: row[name] for name in kept} | {
            "path": relative(row["path"], root),
            "bytes": size,
            "sha256": digest,
        }
        published["annotation"] = relative(outline, root) if outline and _below(outline, root) else None
        parts.setdefault(published.pop("split", "train"), []).append(published)
    return DatasetDict({split: Dataset.from_list(rows, features=features) for split, rows in parts.items()})


def load_manifest(
    repo_id: str, slides: str | Path, features: Features, verify: bool = False, revision: str | None = None
) -> Cohort:
    """Join a published manifest with one's own copy of the slides.

    Args:
        repo_id: organisation/name of the data set.
        slides: folder that the manifest's paths are relative to.
        features: columns of the cohort; what the manifest has besides stays behind.
        verify: compare every slide's SHA-256 too; sizes always are.
        revision: of the manifest.

    Raises:
        ValueError: slides are missing, of another size or content, or a path leads out of the folder. All are named.
    """
    parts = datasets.load_dataset(repo_id, revision=revision)
    return join_manifest(
        [row | {"split": split} for split, part in parts.items() for row in part], repo_id, slides, features, verify
    )


def join_manifest(
    listed: list[dict[str, Any]], name: str, slides: str | Path, features: Features, verify: bool = False
) -> Cohort:
    """Join the rows of the manifest of this name with one's own copy of the slides; see `load_manifest`."""
    root = Path(slides)
    with reading(name, "a manifest of slides", "ask who published it"):
        check_manifest(listed, name)
        progress = tqdm(listed, desc="Checking", unit="slide", disable=not verify)
        wrong = [found for row in progress if (found := _difference(inside(root, row["path"]), row, verify))]
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ValueError(
            f"{len(wrong)} of the {len(listed)} slides of {name} are not as they should be in {root}: {shown}. Give "
            "the folder that the manifest's paths are relative to, and complete it"
        )
    with reading(name, "a manifest of slides", "ask who published it"):
        rows = [{column: row.get(column) for column in features} | _paths(root, row) for row in listed]
        return Cohort.of(rows, features, name, None)


def check_manifest(listed: list[dict[str, Any]], name: str) -> None:
    """Refuse rows that are no manifest."""
    if absent := {"slide_id", "path", "label", "bytes", "sha256"} - set(listed[0] if listed else ()):
        raise ValueError(f"it has no {', '.join(sorted(absent))}")
    check_names([row["slide_id"] for row in listed], name)
    if wrong := [row["slide_id"] for row in listed if row["label"] not in (0, 1) or isinstance(row["label"], float)]:
        raise ValueError(f"the label of {wrong[0]} is neither 0 nor 1")


def checksum(slide: Path) -> tuple[int, str]:
    """(bytes, SHA-256) of a slide: of all its files (`slide_files`), in the order of their names."""
    digest, size = hashlib.sha256(), 0
    for path in slide_files(slide):
        with open(path, "rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
                size += len(block)
    return size, digest.hexdigest()


def inside(folder: Path, path: str) -> Path:
    """A relative path of a manifest, in a folder.

    Raises:
        ValueError: it leads out of the folder.
    """
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or "\\" in path or PureWindowsPath(path).drive:
        raise ValueError(f"the path {path!r} of the manifest leads out of the folder of slides; it is not used")
    return folder.joinpath(*parts)


def relative(path: str | Path, root: Path) -> str:
    if not _below(path, root):
        raise ValueError(f"{path} lies outside {root}; pass slides=, a folder that holds all slides of the cohort")
    return Path(path).absolute().relative_to(root).as_posix()


def _below(path: str | Path, root: Path) -> bool:
    return Path(path).absolute().is_relative_to(root)


def _difference(path: Path, row: dict[str, Any], verify: bool) -> str | None:
    if not path.exists():
        return f"{row['path']} is missing"
    if sum(file.stat().st_size for file in slide_files(path)) != row["bytes"]:
        return f"{row['path']} has another size"
    if verify and checksum(path)[1] != row["sha256"]:
        return f"{row['path']} has another content"
    return None


def _paths(root: Path, row: dict[str, Any]) -> dict[str, str | None]:
    """Where a slide and, if it is there, its annotation lie."""
    outline = inside(root, row["annotation"]) if row.get("annotation") else None
    return {
        "path": str(inside(root, row["path"])),
        "annotation": str(outline) if outline and outline.exists() else None,
    }
