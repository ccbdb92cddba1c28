"""Push a finished run to the Hub: the model, its figures and its card, and nothing else."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from .card import model_card
from .run_files import CARD, CONFIG, OF_THESE_WEIGHTS, published_files, read

HTTP_ERROR: Any = HfHubHTTPError.__mro__[1]  # of the client that this huggingface_hub uses, httpx or a successor
SHIM = "wsi_segmentation_pipeline.py"
SHIM_CODE = '''"""The pipeline is part of the package wsi_hf: pip install wsi_hf"""

from wsi_hf import WsiSegmentationPipeline as WsiSegmentationPipeline
'''
CUSTOM_PIPELINES = {
    "wsi-segmentation": {
        "impl": f"{Path(SHIM).stem}.WsiSegmentationPipeline",
        "pt": ["AutoModelForSemanticSegmentation"],
        "type": "image",
    }
}


def push_run(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
    slide_names: bool = False,
    remote_code_pipeline: bool = False,
    blocking: bool = True,
    **card: Any,
) -> CommitInfo | Future[CommitInfo]:
    """Upload what is to be published of a run's folder, in one commit; an interrupted push is simply done again.

    Args:
        folder: the run's output folder; its card, README.md, is written anew.
        repo_id: organisation/name; made if need be.
        private: whether a new repository is private.
        token, revision: an access token; a branch, which must exist.
        slide_names: publish the pictures too that name slides.
        remote_code_pipeline: let `pipeline("wsi-segmentation", ..., trust_remote_code=True)` work where wsi_hf is
            installed but not imported. Everybody must then pass that flag.
        blocking: wait for the end; else the files are read now and a Future is returned.
        card: license, dataset and dataset_license of `model_card`.

    Raises:
        FileNotFoundError: the folder holds no finished model.
        ValueError: a file names a slide or a path of this machine.
        OSError: the Hub refuses, or cannot be reached.
    """
    api = _api(token, constants.ENDPOINT)
    contents = publication(folder, repo_id, slide_names, remote_code_pipeline, **card)
    with hub_errors(repo_id):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    (Path(folder) / CARD).write_bytes(read(contents[CARD]))
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(name, content if blocking else read(content)) for name, content in contents.items()
    ]
    stale = {*OF_THESE_WEIGHTS, SHIM} - set(contents)
    with hub_errors(repo_id):
        there = api.list_repo_files(repo_id, revision=revision)
        operations += [CommitOperationDelete(name) for name in sorted(stale & set(there))]
        return api.create_commit(
            repo_id, operations, commit_message=commit_message, revision=revision, run_as_future=not blocking
        )  # type: ignore[call-overload]


@cache
def _api(token: str | None, endpoint: str) -> HfApi:
    """One for all pushes of a process: those in the background go one after the other."""
    return HfApi(endpoint, token=token, library_name="wsi_hf")


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what goes wrong between here and the Hub into errors that say what to do."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise OSError(f"{repo_id} cannot be pushed offline: unset HF_HUB_OFFLINE") from error
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise PermissionError(
                f"the Hub does not let you write to {repo_id}: log in with `hf auth login`, or set HF_TOKEN to a token "
                "that may write"
            ) from error
        raise
    except (HTTP_ERROR, RuntimeError) as error:
        raise OSError(
            f"the push to {repo_id} was cut off ({error.__cause__ or error}); push again: what has arrived is not sent "
            "twice"
        ) from error


def publication(
    folder: str | Path, repo_id: str, slide_names: bool = False, remote_code_pipeline: bool = False, **card: Any
) -> dict[str, Path | bytes]:
    """What `push_run` would upload: name in the repository -> a file, or the content itself."""
    contents = published_files(folder, slide_names)
    if remote_code_pipeline:
        config = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        config["custom_pipelines"] = CUSTOM_PIPELINES
        contents[CONFIG] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
        contents[SHIM] = SHIM_CODE.encode()
    contents[CARD] = str(model_card(folder, repo_id, remote_code_pipeline=remote_code_pipeline, **card)).encode()
    return dict(sorted(contents.items()))


def size_of(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
