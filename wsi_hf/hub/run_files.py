"""What of a run's folder is published, and what must not be in it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CARD = "README.md"
CONFIG, WEIGHTS, WEIGHTS_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PROCESSOR = "preprocessor_config.json"
METRICS = "metrics.json"
ARGUMENTS = "training_args.json"
SUMMARY = "training_summary.json"  # stays at home; the card tells what is in it
OVERLAY = "overlay.png"  # without the slide's name
CURVES = ("training.png", "roc.png", "froc.png", "reliability.png")
NAMED_PICTURES = ("overlays.png",)  # the slides' names stand in it
DRAWINGS = ("roc.svg", "froc.svg", "reliability.svg")
OF_THESE_WEIGHTS = (METRICS, OVERLAY, *CURVES, *NAMED_PICTURES, *DRAWINGS, "slides.csv", "report.html")
"""What stands in a run's folder and is no longer true when its weights change."""

MODEL_CODE = tuple(
    sorted(path.name for path in (Path(__file__).parents[1] / "models").glob("*.py") if path.name != "__init__.py")
)
"""The files of `wsi_hf/models` that travel with the weights, for `trust_remote_code=True`."""


def published_files(folder: str | Path, slide_names: bool = False) -> dict[str, Path | bytes]:
    """What of a run's folder is published, the card aside: name in the repository -> the file, or its content.

    Args:
        folder: a run's, as the training leaves it, or any folder with a model and its image processor.
        slide_names: publish the pictures and the parts of metrics.json too that name slides.

    Raises:
        FileNotFoundError: the folder holds no finished model.
        ValueError: a file names a slide or a path of this machine.
    """
    folder = Path(folder)
    for name, what in ((CONFIG, "model"), (PROCESSOR, "image_processor")):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder} holds no {name}: give the output folder of a finished training, or save into it with "
                f"{what}.save_pretrained({str(folder)!r})"
            )
    names = [CONFIG, *_weights(folder), PROCESSOR, ARGUMENTS, METRICS, *CURVES, OVERLAY, *MODEL_CODE]
    names += NAMED_PICTURES if slide_names else ()
    files: dict[str, Path | bytes] = {name: folder / name for name in names if (folder / name).is_file()}
    if slide_names:
        return files
    if METRICS in files:
        figures = without_names(json.loads((folder / METRICS).read_text(encoding="utf-8")))
        files[METRICS] = (json.dumps(figures, indent=2) + "\n").encode()
    known = slide_ids(folder)
    for name in sorted(name for name in files if name.endswith(".json")):
        _refuse_names(folder / name, read(files[name]), known)
    return files


def read_json(path: Path) -> dict[str, Any]:
    """What a file of a run says; nothing where the run has none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def without_names(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figures of metrics.json; of what "cohort" says of single slides only how many they are."""
    if "cohort" not in metrics:
        return metrics
    cohort = {
        name: len(value) if isinstance(value, list | dict) and _names_in(value) else value
        for name, value in metrics["cohort"].items()
    }
    return {**metrics, "cohort": cohort}


def slide_ids(folder: Path) -> set[str]:
    """The slides that a run's folder knows of: trained on, validated or tested."""
    found = {path.stem for pattern in ("detections/*.csv", "_evaluation/*.npz") for path in folder.glob(pattern)}
    for settings in [*folder.glob("_mapping/settings.json"), *folder.glob("_mapping/*/settings.json")]:
        for slide in json.loads(settings.read_text())["slides"]:
            found |= {slide["slide_id"], Path(slide["path"]).stem, Path(slide["path"]).name}
    return {name for name in found if not re.fullmatch(r"\d{1,3}", name)}  # as numbers those stand everywhere


def _names_in(value: list | dict) -> bool:
    """Whether a list or a dictionary of "cohort" speaks of slides by name, and not of counts."""
    return isinstance(value, list) or not value or not all(isinstance(count, int) for count in value.values())


def _weights(folder: Path) -> list[str]:
    """The weights' file, or the index and the shards that it names."""
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    if not (folder / WEIGHTS_INDEX).exists():
        raise FileNotFoundError(f"{folder} holds no {WEIGHTS}: give the output folder of a finished training")
    shards = sorted(set(json.loads((folder / WEIGHTS_INDEX).read_text())["weight_map"].values()))
    if any(Path(shard).name != shard for shard in shards):
        raise ValueError(f"{folder / WEIGHTS_INDEX} names files outside its folder; save the model again")
    return [WEIGHTS_INDEX, *shards]


def _refuse_names(path: Path, content: bytes, known: set[str]) -> None:
    for text in _strings(json.loads(content)):
        words = {text, *re.split(r"[\s/\\,;:]+", text)}
        if named := sorted(known & (words | {Path(word).stem for word in words})):
            raise ValueError(
                f"{path} names the slide {named[0]}; to publish names of slides all the same, pass --slide-names"
            )
        if re.match(r"(/|[A-Za-z]:\\|~|\\\\)\S", text):
            raise ValueError(
                f"{path} names a path of this machine ({text}); remove it, or pass --slide-names to publish it"
            )


def _strings(value: object) -> Iterator[str]:
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
