"""Load a network and its image processor from a folder or the Hub, and know afterwards what it was."""

import os
import re
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import constants
from transformers import AutoImageProcessor, PreTrainedModel

from wsi_hf.models.downloads import ChecksumError, check_index, note_download
from wsi_hf.models.image_processing_wsi import WsiImageProcessor


class AutoModelForSemanticSegmentation(transformers.AutoModelForSemanticSegmentation):
    """transformers' class of that name; what comes from the Hub, of whatever network, is checked and its commit noted.

    It has the same name because transformers looks classes up by it.
    """

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *model_args: Any, **kwargs: Any
    ) -> Any:
        check_index(pretrained_model_name_or_path)
        revision, cache_dir = kwargs.get("revision"), kwargs.get("cache_dir")
        loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if getattr(model.config, "_commit_hash", None) is None:
            note_download(model, str(pretrained_model_name_or_path), revision, cache_dir)
        return loaded


def load_model(
    name: str | Path, revision: str | None = None, trust_remote_code: bool | None = None
) -> tuple[PreTrainedModel, WsiImageProcessor]:
    """Load what a training saved or somebody published.

    Args:
        name: a folder, or a repository on the Hub; offline, one that was loaded before.
        revision: branch, tag or commit of a repository.
        trust_remote_code: run code of the repository, for networks that neither transformers nor this package knows.

    Raises:
        FileNotFoundError: it is neither here nor there, or half of it is missing; the message says what to do.
        ChecksumError: a file was changed on its way.
    """
    check_folder(name)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        model = AutoModelForSemanticSegmentation.from_pretrained(name, **options)
        return model, AutoImageProcessor.from_pretrained(name, **options)
    except ChecksumError:
        raise
    except OSError as error:
        raise FileNotFoundError(f"{name} cannot be loaded: {_way_out(str(name))} ({_first_line(error)})") from error


def check_folder(name: str | Path) -> None:
    """Refuse a folder that is not there or lacks a file, before anybody looks for it on the Hub.

    Raises:
        FileNotFoundError: says what is missing and what to do.
    """
    folder = Path(name)
    if folder.is_dir():
        weights = [path.name for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern)]
        missing = [file for file in ("config.json", "preprocessor_config.json") if not (folder / file).is_file()]
        missing += [] if weights else ["model.safetensors"]
        if missing:
            raise FileNotFoundError(
                f"the folder {folder} holds no {', no '.join(missing)}: give the output folder of a finished training, "
                "or save model and image processor into it with save_pretrained"
            )
    elif not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(name)) or str(name).startswith("."):
        raise FileNotFoundError(f"there is no folder {folder}")


def _way_out(name: str) -> str:
    if Path(name).is_dir():
        return "a file of the folder is damaged"
    if constants.is_offline_mode():
        return (
            "this process is offline (HF_HUB_OFFLINE) and the cache holds no copy of it. Load it once where there is a "
            f"network, or run `hf download {name} --local-dir DIR` there, and give that folder"
        )
    return "there is no such folder, and the Hub does not give it. Check the name; log in (`hf auth login`) if private"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
