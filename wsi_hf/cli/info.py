"""`wsi-hf info`: what is known of slides before anything is done with them."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsi_hf.cli.network import load_network, network_options
from wsi_hf.cli.slides import expanded, slides_argument

if TYPE_CHECKING:
    from wsi_hf.inference.network import PixelNetwork
    from wsi_hf.slides.slide import Slide

logger = logging.getLogger(__name__)


@click.command(short_help="levels, mpp, tissue, and what segmenting would take")
@slides_argument
@click.option("--model", help="estimate for this model (default: an untrained one of the paper's size)")
@click.option("--json", "as_json", is_flag=True, default=True, help="one line of JSON a slide, as always")
@network_options
def info(
    slides: tuple[Path, ...],
    model: str | None,
    as_json: bool,
    mpp: float | None,
    override_mpp: float | None,
    tile_size: int | None,
    **network: Any,
) -> int:
    """Print what is known of slides as JSON, one a line."""
    from wsi_hf.slides.slide import Slide

    ready, failed = load_network(model, **network), False
    for path in expanded(slides):
        try:
            slide = Slide(path, override_mpp, fallback_mpp=mpp)
            print(json.dumps(describe(slide, tile_size, ready)))
        except (RuntimeError, ValueError, OSError) as error:
            logger.error("%s", error)
            failed = True
    return int(failed)


def describe(slide: "Slide", tile_size: int | None, network: "PixelNetwork") -> dict[str, Any]:
    """Levels, resolution, tissue, and the estimated work of one slide."""
    from wsi_hf.segmentation.estimate import estimate
    from wsi_hf.slides.tissue import find_tissue

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
