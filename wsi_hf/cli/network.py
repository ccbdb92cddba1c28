"""The options that every command with a network has, and the network that they ask for."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from wsi_hf.inference.network import PixelNetwork
    from wsi_hf.segmentation.pipeline import WsiSegmentationPipeline

NUMBER = re.compile(r"\d+([.,]\d*)?|[.,]\d+")


class MicronsPerPixel(click.ParamType):
    """A number of um, with a decimal point or a decimal comma."""

    name = "um"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = value if isinstance(value, float) else float(value.replace(",", ".")) if NUMBER.fullmatch(value) else 0
        return number if number > 0 else self.fail(f"{value!r} is not a number of um such as 0.25", param, ctx)


OPTIONS = (
    click.option("--mpp", type=MicronsPerPixel(), help="um per level-0 pixel, for slides whose files do not say"),
    click.option(
        "--override-mpp", "--override_mpp", type=MicronsPerPixel(), help="the same, for all slides, whatever they say"
    ),
    click.option("--tile-size", type=int, help="pixels at the model's mpp (from the memory at hand)"),
    click.option("--device", help="cpu, cuda, cuda:1, ... (a GPU if there is one)"),
    click.option(
        "--dtype",
        type=click.Choice(("auto", "float32", "bfloat16", "float16")),
        default="float32",
        help="auto: bfloat16 where the device is faster in it",
    ),
    click.option("--threads", type=int, help="of the CPU (all)"),
    click.option("--revision", help="branch, tag or commit of a model on the Hub (main)"),
)


def network_options(command: Callable) -> Callable:
    """Add --mpp, --override-mpp, --tile-size, --device, --dtype, --threads and --revision."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def load_pipeline(
    model: str, device: str | None, dtype: str, threads: int | None, revision: str | None = None
) -> "WsiSegmentationPipeline":
    """The pipeline of a model that lies in a folder or on the Hub."""
    import torch

    import wsi_hf.registration  # noqa: F401
    from wsi_hf.inference.loading import load_model
    from wsi_hf.inference.precision import choose_dtype
    from wsi_hf.segmentation.pipeline import WsiSegmentationPipeline

    if threads:
        torch.set_num_threads(threads)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network, image_processor = load_model(model, revision)
    return WsiSegmentationPipeline(
        network,
        image_processor=image_processor,
        device=target,
        network_dtype=choose_dtype(dtype, target),
    )


def load_network(
    model: str | None, device: str | None, dtype: str, threads: int | None, revision: str | None = None
) -> "PixelNetwork":
    """The network of a model, ready for inference; without one, an untrained network of the paper's size."""
    if model is not None:
        return load_pipeline(model, device, dtype, threads, revision).network()
    import torch

    from wsi_hf import WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation
    from wsi_hf.inference.network import PixelNetwork
    from wsi_hf.inference.precision import choose_dtype

    if threads:
        torch.set_num_threads(threads)
    untrained = WsiUNetForSegmentation(WsiUNetConfig())
    return PixelNetwork(untrained, WsiImageProcessor(), device, choose_dtype(dtype, device or "cpu"))
