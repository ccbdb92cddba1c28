"""`pipeline("wsi-segmentation")`: whole slides in, labels, scores and probability maps out."""

import errno
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import zarr
from PIL import Image
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import Pipeline

from wsi_hf.inference.network import PixelNetwork
from wsi_hf.models.downloads import note_download
from wsi_hf.segmentation.outputs import ZARR
from wsi_hf.segmentation.runs import SegmentationFolder
from wsi_hf.segmentation.segmentation import segment_slide
from wsi_hf.slides.files import is_folder_of_dicom, series_in, slide_name, slides_in
from wsi_hf.slides.formats.images import PixelError, image_of, rgba
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)

RUN_OPTIONS = ("tissue", "threshold", "smallest_um2")
SLIDE_OPTIONS = ("tile_size", "progress")


class ImageSlide(Slide):
    """An image in memory as a slide; kept in a temporary file as long as the slide lives."""

    def __init__(self, image: Image.Image | np.ndarray, mpp: float | None, name: str) -> None:
        try:
            image = rgba(image if isinstance(image, Image.Image) else image_of(image))
        except PixelError as error:
            raise PixelError(f"{name}: {error}") from None
        self._folder = TemporaryDirectory(prefix="wsi_hf-")
        path = Path(self._folder.name) / f"{name}.png"
        image.save(path, compress_level=1)
        super().__init__(path, mpp)


class WsiSegmentationPipeline(Pipeline):
    """Segment whole slides.

    `pipe(slides)` takes one slide or many: a path, a `Slide`, a PIL image or an RGB array (with `mpp=`); a list, a
    column of a data set, a generator, a `KeyDataset`, or a folder of slides. One slide gives one result, a list, a
    column or a folder a list, a generator or a `KeyDataset` a generator, in the order of the input.

    A result is a dict: slide_id, label, score (0.5 is the operating point of a calibrated model), calibrated, raw_score
    (the paper's, the largest pixel probability), margin, probability_map (H, W, read lazily), mpp, lesions,
    lesion_area_um2, tissue_area_um2, warnings, not_analysed, model, revision (its commit on the Hub); and "folder" with
    `out=`, which also gets slides.csv, else "segmentation", which writes the files. With `on_error="report"` a slide
    that fails gives slide_id and error.

    Args of a call:
        mpp: um per level-0 pixel, for files and images that do not say.
        override_mpp: the same, for all files, whatever they say.
        out: a folder for all outputs; finished slides in it are not computed again.
        on_error: "raise", or "report" in the slide's place and go on.
        tissue, tile_size, threshold, smallest_um2, batch_size (tiles), num_workers (reading threads): as for
        `segment_slide`.
        network_dtype: what the network runs in; by default the model's own (`dtype=` of `pipeline`).
        progress: progress bars, one over the slides and one over the tiles of each.
    """

    _load_image_processor: Any = True
    _load_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False
    _load_video_processor: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.model.config, "_commit_hash", None) is None:
            note_download(self.model, self.model.config.name_or_path or None)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        known = {"mpp", "override_mpp", "out", "on_error", "network_dtype", *RUN_OPTIONS, *SLIDE_OPTIONS}
        if unknown := set(kwargs) - known:
            raise TypeError(f"unknown arguments: {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
        if kwargs.get("on_error", "raise") not in ("raise", "report"):
            raise ValueError(f'on_error must be "raise" or "report"; got {kwargs["on_error"]!r}')
        return {}, kwargs, {}

    def __call__(
        self, inputs: Any, *args: Any, num_workers: int | None = None, batch_size: int | None = None, **kwargs: Any
    ) -> dict[str, Any] | list[dict[str, Any]] | Iterator[dict[str, Any]]:
        options = {**self._forward_params, **self._sanitize_parameters(**kwargs)[1]}
        options["batch_size"] = batch_size or self._batch_size or 1
        options["num_workers"] = num_workers or self._num_workers or 2
        if isinstance(inputs, str | Path) and is_folder_of_slides(Path(inputs)):
            inputs = slides_in(Path(inputs))
        if isinstance(inputs, Sequence) and not isinstance(inputs, str):
            return list(self._results(inputs, len(inputs), **options))
        if isinstance(inputs, Dataset):
            inputs = map(inputs.__getitem__, range(len(inputs)))  # type: ignore[arg-type]
        if isinstance(inputs, Iterator):
            return self._results(inputs, None, **options)
        return next(self._results([inputs], None, **options))

    def _results(
        self,
        inputs: Iterable[Any],
        total: int | None,
        mpp: float | None = None,
        override_mpp: float | None = None,
        out: str | Path | None = None,
        on_error: Literal["raise", "report"] = "raise",
        progress: bool = False,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        network = self.network(options.pop("network_dtype", None))
        run = {name: options.pop(name) for name in RUN_OPTIONS if name in options}
        folder = SegmentationFolder(out, network, **run) if out is not None else None
        for number, item in enumerate(
            tqdm(inputs, "slides", total, unit="slide", disable=not progress or total is None)
        ):
            try:
                slide = as_slide(item, mpp, f"image_{number}", override_mpp)
                if folder is None:
                    result = _from_memory(segment_slide(network, slide, progress=progress, **run, **options))
                else:
                    result = _from_folder(folder.segment(slide, progress=progress, **options))
            except (SlideError, OSError, ValueError) as error:
                disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                if on_error == "raise" or disk_full:
                    raise
                logger.error("%s", error)
                name = name_of(item, f"image_{number}")
                result = {"slide_id": name, "label": None, "score": None, "error": str(error)}
            if folder is not None:
                folder.note(result)
            yield result

    def network(self, dtype: torch.dtype | None = None) -> PixelNetwork:
        """The pipeline's model, ready for inference."""
        dtype = dtype or self._forward_params.get("network_dtype")
        return PixelNetwork(self.model, self.image_processor, self.device, dtype)  # type: ignore[arg-type]

    def preprocess(self, input_: Any, **parameters: Any) -> Any:
        raise NotImplementedError("slides are streamed; call the pipeline")

    def _forward(self, input_tensors: Any, **parameters: Any) -> Any:
        raise NotImplementedError("slides are streamed; call the pipeline")

    def postprocess(self, model_outputs: Any, **parameters: Any) -> Any:
        raise NotImplementedError("slides are streamed; call the pipeline")


def is_folder_of_slides(path: Path) -> bool:
    """Whether a path is a folder, and not that of one DICOM slide."""
    return path.is_dir() and not (is_folder_of_dicom(path) and len(series_in(path)) == 1)


def as_slide(item: Any, mpp: float | None, name: str, override_mpp: float | None = None) -> Slide:
    """Open whatever the pipeline takes as a slide.

    Args:
        item: a path, a slide, an image or an array.
        mpp, override_mpp: see the pipeline.
        name: of an image.
    """
    if isinstance(item, Slide):
        return item
    if isinstance(item, str | Path):
        return Slide(item, override_mpp, fallback_mpp=mpp)
    if isinstance(item, Image.Image | np.ndarray):
        return ImageSlide(item, override_mpp or mpp, name)
    raise ValueError(f"{name}: a path, a Slide, a PIL image or an RGB array is needed, not {type(item).__name__}")


def name_of(item: Any, name: str) -> str:
    """What to call an input that could not be opened."""
    if isinstance(item, Slide):
        return item.slide_id
    return slide_name(item) if isinstance(item, str | Path) else name


def _from_memory(result: Any) -> dict[str, Any]:
    return {**_facts(result.summary), "probability_map": result.probabilities, "segmentation": result}


def _from_folder(summary: dict[str, Any]) -> dict[str, Any]:
    array = zarr.open_array(Path(summary["folder"]) / ZARR, mode="r")
    return {**_facts(summary), "probability_map": array, "folder": summary["folder"]}


def _facts(summary: dict[str, Any]) -> dict[str, Any]:
    names = (
        *("slide_id", "label", "score", "calibrated", "raw_score", "margin", "lesions", "lesion_area_um2"),
        *("tissue_area_um2", "warnings", "not_analysed"),
    )
    return {
        **{name: summary[name] for name in names},
        "mpp": summary["settings"]["mpp"],
        "model": summary["model"]["id"],
        "revision": summary["model"]["revision"],
    }
