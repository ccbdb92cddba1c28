"""The command `wsi-hf`: each subcommand is a small function; what it needs is imported when it runs."""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_hf.inference.network import PixelNetwork
    from wsi_hf.segmentation.pipeline import WsiSegmentationPipeline

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
    _add_evaluate(commands)
    _add_figures(commands)
    _add_push(commands)
    return top


def _add_synthesize(commands: Any) -> None:
    command = commands.add_parser("synthesize", help="write a synthetic cohort in CAMELYON16's layout")
    command.set_defaults(run=synthesize)
    command.add_argument("folder", type=Path, help="where to; made if need be")
    command.add_argument("--n-train", type=int, default=128, help="training slides (%(default)s)")
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


def _add_evaluate(commands: Any) -> None:
    command = commands.add_parser("evaluate", help="judge a model on a cohort as the CAMELYON16 challenge does")
    command.set_defaults(run=evaluate)
    command.add_argument(
        "--cohort", required=True, type=Path, help="CAMELYON16 folder, CSV table of slides, or manifest on the Hub"
    )
    command.add_argument("--slides", type=Path, help="folder of the slides of a manifest on the Hub")
    command.add_argument("--check", action="store_true", help="only say what is missing, broken or odd in the cohort")
    command.add_argument("--model", help="a folder or a name on the Hub")
    command.add_argument("--out", type=Path, help="folder for the results; a stopped run goes on from what is there")
    command.add_argument("--split", default="test", choices=("train", "validation", "test"), help="(%(default)s)")
    command.add_argument(
        "--convention", default="challenge", choices=("challenge", "release"), help="of FROC (%(default)s)"
    )
    command.add_argument("--detection-radius-um", type=float, default=187.0, help="no two are nearer (%(default)s)")
    command.add_argument("--include-itc", action="store_true", help="count lesions under 275 um, unlike the challenge")
    command.add_argument("--band-um", type=float, default=20.0, help="uncertainty of outlines (%(default)s)")
    command.add_argument("--batch-size", type=int, default=1, help="tiles a forward pass (%(default)s)")
    command.add_argument("--num-workers", type=int, default=2, help="threads that read (%(default)s)")
    _add_network(command)


def _add_figures(commands: Any) -> None:
    command = commands.add_parser("figures", help="draw the paper's figures")
    command.set_defaults(run=figures)
    command.add_argument("--out", required=True, type=Path, help="folder for the pictures")
    command.add_argument("--run", dest="evaluated", type=Path, help="evaluated folder, for Figures 3 and 4")


def _add_push(commands: Any) -> None:
    command = commands.add_parser("push", help="publish a finished run on the Hub, with a card that tells the truth")
    command.set_defaults(run=push)
    command.add_argument("folder", type=Path, metavar="RUN_DIR", help="the training's output folder")
    command.add_argument("repo_id", metavar="ORG/NAME", help="repository on the Hub; made if need be")
    command.add_argument("--private", action="store_true", default=None, help="make the new repository private")
    command.add_argument("--dry-run", action="store_true", help="list what would be pushed, and print the card")
    command.add_argument("--out", type=Path, help="with --dry-run: also write it all into this new folder")
    command.add_argument("--license", default="apache-2.0", help="of the weights (%(default)s)")
    command.add_argument("--dataset", help="what to call the slides, or the name of a data set on the Hub")
    command.add_argument("--dataset-license", help="of the slides")
    command.add_argument("--slide-names", action="store_true", help="publish what names slides too")
    command.add_argument(
        "--remote-code-pipeline", "--remote_code_pipeline", action="store_true",
        help="let pipeline(..., trust_remote_code=True) work without importing wsi_hf; all must then pass the flag",
    )  # fmt: skip
    command.add_argument("--revision", help="branch to push to (main)")


def _add_network(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mpp", type=float, help="um per level-0 pixel, for slides whose files do not say")
    command.add_argument("--tile-size", type=int, help="pixels at the model's mpp (from the memory at hand)")
    command.add_argument("--device", help="cpu, cuda, cuda:1, ... (a GPU if there is one)")
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    command.add_argument("--threads", type=int, help="of the CPU (all)")
    command.add_argument("--revision", help="branch, tag or commit of a model on the Hub (main)")


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


def evaluate(
    cohort: Path,
    slides: Path | None,
    check: bool,
    model: str | None,
    out: Path | None,
    split: str,
    mpp: float | None,
    device: str | None,
    dtype: str,
    threads: int | None,
    revision: str | None,
    **options: Any,
) -> int:
    """Check a cohort, or judge a model on it; several processes under `accelerate launch` share the slides."""
    if check:
        return _check(cohort, mpp)
    if model is None or out is None:
        raise ValueError("evaluate needs --model and --out, or --check")
    from datetime import timedelta

    import torch
    from accelerate import PartialState

    from wsi_hf.cohorts.camelyon16 import load_cohort
    from wsi_hf.evaluation.summary import summary_lines
    from wsi_hf.reports.cohort import evaluate_cohort

    # a process that is done waits for the others, however long their slides take
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=timedelta(days=7))
    rows = load_cohort(cohort, slides)
    rows = rows.select([row for row, name in enumerate(rows["split"]) if name == split])
    if not len(rows):
        raise ValueError(f"{cohort} has no {split} slides; choose another --split")
    network = _network(model, device or str(state.device), dtype, threads, revision)
    metrics = evaluate_cohort(network, rows, out, mpp=mpp, state=state, **options)
    state.wait_for_everyone()
    state.destroy_process_group()  # its threads may abort a process that exits with them
    if not state.is_main_process:
        return 0
    print("\n".join(summary_lines(metrics)))
    print(out / "report.html")
    return int(bool(metrics["cohort"]["failed"]))


def _check(cohort: Path, mpp: float | None) -> int:
    from wsi_hf.cohorts.check import check_cohort

    bad = 0
    for finding in check_cohort(cohort, mpp, progress=sys.stderr.isatty()):
        print(finding, flush=True)
        bad += finding.bad
    print(f"{bad} findings stand in the way" if bad else "nothing stands in the way")
    return int(bad > 0)


def figures(out: Path, evaluated: Path | None) -> int:
    """Draw Figure 1, and Figures 3 and 4 from an evaluated folder."""
    from wsi_hf.reports.paper_figures import plot_paper_figures

    for path in plot_paper_figures(out, evaluated):
        print(path)
    return 0


def push(
    folder: Path,
    repo_id: str,
    dry_run: bool,
    out: Path | None,
    private: bool | None,
    revision: str | None,
    **options: Any,
) -> int:
    """Push a run to the Hub, or say what would be pushed."""
    from wsi_hf.hub.push import publication, push_run, size_of
    from wsi_hf.hub.run_files import CARD, read

    if out is not None and not dry_run:
        raise ValueError("--out goes with --dry-run: it writes a folder in place of the push")
    if not dry_run:
        pushed: Any = push_run(folder, repo_id, private=private, revision=revision, **options)
        print(pushed.commit_url)
        return 0
    contents = publication(folder, repo_id, **options)
    for name, content in contents.items():
        print(f"{size_of(content):>12,}  {name}")
    print(f"{sum(map(size_of, contents.values())):>12,}  in all, to {repo_id}; nothing was sent\n")
    print(read(contents[CARD]).decode())
    if out is not None:
        out.mkdir(parents=True)
        for name, content in contents.items():
            (out / name).write_bytes(read(content))
    return 0


def _describe(path: Path, mpp: float | None, tile_size: int | None, network: "PixelNetwork") -> dict[str, Any]:
    from wsi_hf.segmentation.estimate import estimate
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


def _pipeline(
    model: str, device: str | None, dtype: str, threads: int | None, revision: str | None = None
) -> "WsiSegmentationPipeline":
    import torch

    import wsi_hf  # noqa: F401  registers the model
    from wsi_hf.inference.loading import load_model
    from wsi_hf.segmentation.pipeline import WsiSegmentationPipeline

    if threads:
        torch.set_num_threads(threads)
    network, image_processor = load_model(model, revision)
    return WsiSegmentationPipeline(
        network,
        image_processor=image_processor,
        device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        network_dtype=getattr(torch, dtype),
    )


def _network(
    model: str | None, device: str | None, dtype: str, threads: int | None, revision: str | None = None
) -> "PixelNetwork":
    from wsi_hf import WsiImageProcessor, WsiUNetConfig, WsiUNetForSegmentation
    from wsi_hf.inference.network import PixelNetwork

    if model is not None:
        return _pipeline(model, device, dtype, threads, revision).network()
    import torch

    if threads:
        torch.set_num_threads(threads)
    untrained = WsiUNetForSegmentation(WsiUNetConfig())
    return PixelNetwork(untrained, WsiImageProcessor(), device, getattr(torch, dtype))


def _expanded(paths: list[Path]) -> list[Path]:
    """Slides, with the slides of folders in their place."""
    from wsi_hf.segmentation.pipeline import is_folder_of_dicom, slides_in

    nested = (slides_in(path) if path.is_dir() and not is_folder_of_dicom(path) else [path] for path in paths)
    return [slide for slides in nested for slide in slides]


if __name__ == "__main__":
    sys.exit(main())
