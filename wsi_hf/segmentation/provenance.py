"""What a result was made of: fingerprints of slide and model, by which finished work is known again."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.slides.files import slide_files
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue_masks import mask_file

READ_BYTES = 2**22
PACKAGES = ("wsi_hf", "torch", "transformers", "openslide-python")


def slide_fingerprint(slide: Slide) -> str:
    """Hash of a slide's bytes: of all its files, for DICOM and MIRAX."""
    files = slide_files(slide.path)
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        digest.update(path.name.encode() if len(files) > 1 else b"")
        with open(path, "rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


def mask_fingerprint(tissue: object, slide: Slide) -> str | None:
    """Hash of the file of a slide's tissue mask; None where the mask is in no file."""
    if tissue == "auto" or not isinstance(tissue, str | Path):
        return None
    return hashlib.blake2b(mask_file(Path(tissue), slide).read_bytes(), digest_size=16).hexdigest()


def model_fingerprint(network: PixelNetwork) -> str:
    """Hash of the weights as they run and of the image processor."""
    digest = hashlib.blake2b(repr(sorted(network.image_processor.to_dict().items())).encode(), digest_size=16)
    for name, tensor in sorted(network.model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def describe_model(network: PixelNetwork) -> dict[str, Any]:
    config = network.config
    return {
        "id": config.name_or_path or type(network.model).__name__,
        "revision": getattr(config, "_commit_hash", None),
        "fingerprint": model_fingerprint(network),
        "labels": {str(number): label for number, label in network.labels.items()},
    }


def describe_slide(slide: Slide) -> dict[str, Any]:
    return {
        "id": slide.slide_id,
        "file": slide.path.name,
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "width_l0": slide.dimensions_l0[0],
        "height_l0": slide.dimensions_l0[1],
    }


def describe_tissue(tissue: str | Path | np.ndarray | None) -> str | None:
    """ "auto", null for the whole slide, the name of a file or folder of masks, or the hash of a mask."""
    if not isinstance(tissue, np.ndarray):
        return f"masks: {Path(tissue).name}" if tissue not in (None, "auto") else tissue
    return hashlib.blake2b(repr(tissue.shape).encode() + tissue.astype(bool).tobytes(), digest_size=16).hexdigest()


def versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}
