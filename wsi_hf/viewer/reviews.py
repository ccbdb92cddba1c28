"""A reader's verdicts on lesions, saved as GeoJSON that QuPath opens."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from wsi_hf.slides.replacing import write_text
from wsi_hf.viewer.outlines import named
from wsi_hf.viewer.shown_slide import Feature, read_json

VERDICTS = ("accepted", "rejected")
COLOURS = {"accepted": [46, 160, 67], "rejected": [128, 128, 128]}
_writing = Lock()


def read_verdicts(path: Path) -> dict[str, str]:
    """Accepted or rejected, by the lesions' ids."""
    return {feature["id"]: feature["properties"]["verdict"] for feature in _features(path)}


def save_verdict(path: Path, lesions: Mapping[str, Any], lesion_id: str, verdict: str | None) -> None:
    """Save one more verdict, or take one back (None); the file appears when it is complete.

    Args:
        path: of the GeoJSON, which holds the lesions that were decided on with their full outlines.
        lesions: all of the slide, a GeoJSON collection; what else it says is kept.
        lesion_id: of the one that is decided on.
        verdict: one of `VERDICTS`, or None.

    Raises:
        ValueError: another verdict.
        KeyError: there is no such lesion.
    """
    if verdict not in (*VERDICTS, None):
        raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}; got {verdict!r}")
    lesion = dict(named(lesions["features"]))[lesion_id]
    with _writing:
        decided = {feature["id"]: feature for feature in _features(path)}
        decided.pop(lesion_id, None)
        if verdict is not None:
            decided[lesion_id] = _decided(lesion, lesion_id, verdict)
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps({**lesions, "features": list(decided.values())}, indent=1) + "\n")


def _features(path: Path) -> list[Feature]:
    return read_json(path)["features"] if path.exists() else []


def _decided(lesion: Mapping, lesion_id: str, verdict: str) -> Feature:
    label = lesion["properties"]["classification"]["name"]
    said = {
        "verdict": verdict,
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "classification": {"name": label if verdict == "accepted" else f"not {label}", "color": COLOURS[verdict]},
    }
    return {**lesion, "id": lesion_id, "properties": {**lesion["properties"], **said}}
