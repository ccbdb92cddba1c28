"""The command `wsi-hf`: each subcommand is a small function; what it needs is imported when it runs."""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_hf.inference.network import PixelNetwork
    from wsi_hf.inference.pipeline import WsiSegmentationPipeline

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; 0 if all went well, 1 if something failed (and was reported), 2 for wrong arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    options = vars(parser().parse_args(arguments))
    command = options.pop("run")
    try:
        return command(**options)
    except KeyboardInterrupt:
        logger.error("interrupted; what was finished is kept, and the same command goes on from there")
        return 130
    except (RuntimeError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("wsi-hf", description=__doc__)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_synthesize(commands)
    _add_segment(commands)
    _add_info(commands)
    return top


def _add_synthesize(commands: Any) -> None:
    command = commands.add_parser("synthesize", help="write a synthetic cohort in CAMELYON16's layout")
    command.set_defaults(run=synthesize)
    command.add_argument("folder", type=Path, help="where to; made if need be")
    command.add_argument("--n-train", type=int, default=64, help="training slides (%(default)s)")
    command.add_argument("--n-test", type=int, default=32, help="test slides (%(default)s)")
    command.add_argument("--size-um", type=float, default=768, help="side of a slide in um (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the slides (%(default)s)")


def _add_segment(commands: Any) -> None:
    command = commands.add_parser("segment", help="segment slides: maps, lesions, overlays, summaries")
    command.set_defaults(run=segment)
    command.add_argument("slides", nargs="+", type=Path, metavar="SLIDE", help="slides, or folders of slides")
    command.add_argument("--model", required=True, help="a folder or a name on the Hub")
    command.add_argument("--out", required=True, type=Path, help="folder for the results; finished slides are kept")
    command.add_argument("--threshold", type=float, default=0.5, help="probability of a lesion's pixel (%(default)s)")
    command.add_argument("--whole-slide", action="store_true", help="not only where there is tissue")
    command.add_argument("--batch-size", type=int, default=1, help="tiles a forward pass (%(default)s)")
    command.add_argument("--num-workers", type=int, default=2, help="threads that read (%(default)s)")
    _add_network(command)


def _add_info(commands: Any) -> None:
    command = commands.add_parser("info", help="levels, mpp, tissue, and what segmenting would take")
    command.set_defaults(run=info)
    command.add_argument("slides", nargs="+", type=Path, metavar="SLIDE", help="slides, or folders of slides")
    command.add_argument("--model", help="estimate for this model (default: an untrained one of the paper's size)")
    _add_network(command)


def _add_network(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mpp", type=float, help="um per level-0 pixel, for slides whose files do not say")
    command.add_argument("--tile-size", type=int, help="pixels at the model's mpp (from the memory at hand)")
    command.add_argument("--device", help="cpu, cuda, cuda:1, ... (a GPU if there is one)")
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    command.add_argument("--threads", type=int, help="of the CPU (all)")


def synthesize(folder: Path, n_train: int, n_test: int, size_um: float, seed: int) -> int:
    """Write a synthetic cohort."""
    from wsi_hf.cohorts.synthetic import synthesize_cohort

    print(synthesize_cohort(folder, n_train=n_train, n_test=n_test, size_um=size_um, seed=seed))
    return 0


def segment(
    slides: list[Path],
    model: str,
    out: Path,
    threshold: float,
    whole_slide: bool,
    batch_size: int,
    num_workers: int,
    mpp: float | None,
    tile_size: int | None,
    **network: Any,
) -> int:
    """Segment slides into a folder; one line a slide."""
    results: Any = _pipeline(model, **network)(
        _expanded(slides),
        mpp=mpp,
        out=out,
        on_error="report",
        tissue=None if whole_slide else "auto",
        threshold=threshold,
        tile_size=tile_size,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=sys.stderr.isatty(),
    )
    for result in results:
        if "error" in result:
            print(f"{result['slide_id']}\tfailed")
        else:
            spots = f"\t{len(result['not_analysed'])} spots not analysed" if result["not_analysed"] else ""
            print(f"{result['slide_id']}\t{result['label']}\t{result['score']:.4f}\t{result['folder']}{spots}")
    return int(any("error" in result or result["not_analysed"] for result in results))


def info(slides: list[Path], model: str | None, mpp: float | None, tile_size: int | None, **network: Any) -> int:
    """Print what is known of slides as JSON, one a line."""
    ready, failed = _network(model, **network), False
    for path in _expanded(slides):
        try:
            print(json.dumps(_describe(path, mpp, tile_size, ready)))
        except (RuntimeError, OSError) as error:
            logger.error("%s", error)
            failed = True
    return int(failed)


def _describe(path: Path, mpp: float | None, tile_size: int | None, network: "PixelNetwork") -> dict[str, Any]:
    from wsi_hf.inference.estimate import estimate
    from wsi_hf.slides.slide import Slide
    from wsi_hf.slides.tissue import find_tissue

    slide = Slide(path, mpp)
    tissue = find_tissue(slide)
    work = estimate(network, slide, tissue if tissue.any() else None, tile_size)
    return {
        "slide_id": slide.slide_id,
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "levels": [
            {"size": size, "downsample": round(downsample, 4), "mpp": round(slide.mpp * downsample, 4)}
            for size, downsample in zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        ],
        "tissue_share": round(float(tissue.mean()), 4),
        "tiles": work.tiles,
        "tiles_of_whole_slide": work.all_tiles,
        "megapixels": round(work.megapixels, 2),
        "estimated_seconds": round(work.seconds, 1),
        "estimated_memory_mb": round(work.memory_bytes / 2**20),
    }


def _pipeline(model: str, device: str | None, dtype: str, threads: int | None) -> "WsiSegmentationPipeline":
    import torch
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    import wsi_hf  # noqa: F401  registers the model
    from wsi_hf.inference.pipeline import WsiSegmentationPipeline

    if threads:
        torch.set_num_threads(threads)
    return WsiSegmentationPipeline(
        AutoModelForSemanticSegmentation.from_pretrained(model),
        image_processor=AutoImageProcessor.from_pretrained(model),
        device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        network_dtype=getattr(torch, dtype),
    )


def _network(model: str | None, device: str | None, dtype: str, threads: int | None) -> "PixelNetwork":
    from wsi_hf import WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation
    from wsi_hf.inference.network import PixelNetwork

    if model is not None:
        return _pipeline(model, device, dtype, threads).network()
    import torch

    if threads:
        torch.set_num_threads(threads)
    untrained = WsiUNetForSegmentation(WsiUNetConfig())
    return PixelNetwork(untrained, WsiImageProcessor(), device, getattr(torch, dtype))


def _expanded(paths: list[Path]) -> list[Path]:
    """Slides, with the slides of folders in their place."""
    from wsi_hf.inference.pipeline import is_folder_of_dicom, slides_in

    nested = (slides_in(path) if path.is_dir() and not is_folder_of_dicom(path) else [path] for path in paths)
    return [slide for slides in nested for slide in slides]


if __name__ == "__main__":
    sys.exit(main())
