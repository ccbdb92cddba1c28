"""Damage every kind of file that comes from elsewhere, and count how the readers take it.

    python benchmarks/fuzz_readers.py 5000            # inputs a reader; an hour on one core
    python benchmarks/fuzz_readers.py 200 asap map    # some of them

A reader may read what it is given or refuse it with a ValueError or SlideError that names the file. Everything else is
a fault: another exception, a message without the name, more than five seconds.
"""

import csv
import json
import logging
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from shapely import MultiPolygon, box

from wsi_hf.cohorts.camelyon16 import read_reference
from wsi_hf.cohorts.manifest import join_manifest
from wsi_hf.cohorts.own_slides import load_table
from wsi_hf.cohorts.rows import FEATURES
from wsi_hf.evaluation.froc.detection_files import read_detections
from wsi_hf.evaluation.froc.patches import Patches
from wsi_hf.evaluation.pixel_counts import PixelCounts
from wsi_hf.evaluation.records import SlideRecord, load_record
from wsi_hf.mapping.mapper import MappingSettings
from wsi_hf.reports.cohort import read_rules, read_slide_ids
from wsi_hf.sampling.map_store import MapEntry, MapStore, Round
from wsi_hf.sampling.patch_dataset import TrainingSlide
from wsi_hf.sampling.probability_map import ProbabilityMap, default_map
from wsi_hf.segmentation.runs import FACTS, read_summary
from wsi_hf.slides.annotations import write_asap
from wsi_hf.slides.damaged import DamagedFileError
from wsi_hf.slides.handles import SlideError
from wsi_hf.slides.outlines.outline_files import read_outline
from wsi_hf.slides.slide import Slide
from wsi_hf.slides.tissue_masks import read_tissue

SLOW_S = 5.0
ODD_BYTES = (
    *(b"\0", b"\xff", b"nan", b"inf", b"-1", b"1e999", b"99999999999999999999", b'"', b"<", b"{", b"[", b";", b","),
    *(b"../", b"\xef\xbb\xbf", b"\xff\xfe", b"&x;", b"<!DOCTYPE a>", b'encoding="nonsense"', b"null"),
)
ODD_VALUES = (None, True, -1, 0, 1e308, float("nan"), float("inf"), 2**70, "", "x", "../x", [], {}, [[]], {"a": 1})


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four faults: bits, cuts, pieces moved, odd bytes put in; of JSON also odd values."""
    for _ in range(rng.integers(1, 5)):
        at, to = (int(rng.integers(0, len(data) + 1)) for _ in range(2))
        match rng.integers(0, 7):
            case 0:
                data = data[:at]
            case 1:
                data = data[: min(at, to)] + data[max(at, to) :]
            case 2:
                data = data[:at] + data[min(at, to) : max(at, to)][:4096] + data[at:]
            case 3:
                data = data[:at] + ODD_BYTES[rng.integers(len(ODD_BYTES))] + data[at:]
            case 4:
                odd = ODD_BYTES[rng.integers(len(ODD_BYTES))]
                data = data[:at] + odd + data[at + len(odd) :]
            case 5:
                flipped = bytearray(data)
                for place in rng.integers(0, max(1, len(data)), 8) if data else ():
                    flipped[place] ^= 1 << int(rng.integers(8))
                data = bytes(flipped)
            case 6:
                data = _odd_value(data, rng)
    return data


def _odd_value(data: bytes, rng: np.random.Generator) -> bytes:
    """JSON with a value or a key changed; other data as it is."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return data
    part = whole
    while isinstance(part, dict | list) and part:
        key = list(part)[rng.integers(len(part))] if isinstance(part, dict) else int(rng.integers(len(part)))
        if not isinstance(part[key], dict | list) or not part[key] or rng.random() < 0.3:
            if rng.random() < 0.2:
                del part[key]
            else:
                part[key] = ODD_VALUES[rng.integers(len(ODD_VALUES))]
            break
        part = part[key]
    return json.dumps(whole).encode()


Reader = tuple[Path, Callable[[Path], object]]


def readers(folder: Path) -> dict[str, Reader]:
    """{name: (a file in order, its reader)}."""
    made: dict[str, Reader] = {}
    outline = MultiPolygon([box(0, 0, 100, 100) - box(20, 20, 40, 40), box(200, 0, 300, 50)])
    made["asap"] = write_asap(folder / "asap.xml", outline), read_outline
    feature = {
        "type": "Feature",
        "geometry": outline.__geo_interface__,
        "properties": {"classification": {"name": "Tumor"}},
    }
    (folder / "qupath.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    made["geojson"] = folder / "qupath.geojson", read_outline
    slide = _write_slides(folder)
    made["tissue geojson"] = _copy(folder / "qupath.geojson", "tissue.geojson"), lambda path: read_tissue(path, slide)
    Image.fromarray(np.eye(16, dtype=np.uint8)).save(folder / "mask.png")
    made["tissue image"] = folder / "mask.png", lambda path: read_tissue(path, slide)
    for name in ("slide.tif", "slide.ome.tif", "slide.png", "slide.jpg"):
        made[name] = folder / name, _read_slide
    (folder / "table.csv").write_text(
        "slide_id,path,label,mpp,split\na,slide.tif,malignant,0.25,test\nb,slide.png,benign,,train\n"
    )
    made["table"] = folder / "table.csv", load_table
    (folder / "evaluation").mkdir()
    (folder / "evaluation/reference.csv").write_text("test_001,Tumor,IDC,Macro\ntest_002,Normal,None,None\n")
    made["reference"] = folder / "evaluation/reference.csv", lambda path: read_reference(path.parents[1])
    (folder / "detections.csv").write_text("0.9,100,200\n0.5,3,4\n")
    made["detections"] = folder / "detections.csv", read_detections
    default_map("slide", (1024, 700), 1.0, None).save(folder / "map.safetensors")
    made["map"] = folder / "map.safetensors", ProbabilityMap.load
    slides = [TrainingSlide("a", "/a.tif", 0), TrainingSlide("b", "/b.tif", 1, 0.25)]
    MappingSettings(
        folder=str(folder), slides=slides, mpp=1.0, alpha=2.0, map_stride=8, tile_size=512, slides_per_round=4,
        max_epochs_unmapped=3, steps_per_round=25, tissue="auto", seed=0, threads=1,
    ).save()  # fmt: skip
    made["settings"] = folder / "settings.json", lambda path: MappingSettings.load(path.parent)
    store = MapStore(folder)
    store.publish(3, Round([MapEntry("a.3.safetensors", 3, 1.5, 2.0, 4, 2)], 4, lost={0: "gone"}))
    made["round index"] = store.index_path(3), lambda path: MapStore(path.parents[1]).read(3)
    made["record"] = _write_record(folder / "record.npz", outline), load_record
    made_of = {"slide": {"fingerprint": "a", "mpp": 1}, "settings": {}, "model": {"fingerprint": "m"}}
    facts = dict.fromkeys(FACTS, 1) | made_of
    (folder / "summary.json").write_text(json.dumps(facts))
    made["summary"] = folder / "summary.json", read_summary
    figures = {"cohort": {"failed": {"a": "why"}}, "froc": {"convention": "challenge", "include_itc": False}}
    (folder / "metrics.json").write_text(json.dumps(figures))
    made["metrics"] = folder / "metrics.json", read_rules
    (folder / "slides.csv").write_text("slide_id,label\na,benign\n'=b,malignant\n")
    made["slides.csv"] = folder / "slides.csv", read_slide_ids
    row = {"slide_id": "a", "path": "slide.tif", "label": 1, "split": "train", "annotation": None, "mpp": None}
    size = (folder / "slide.tif").stat().st_size
    (folder / "manifest.json").write_text(json.dumps([{**row, "exhaustive": True, "bytes": size, "sha256": "0" * 64}]))
    made["manifest"] = folder / "manifest.json", _read_manifest
    return made


def _copy(path: Path, name: str) -> Path:
    path.with_name(name).write_bytes(path.read_bytes())
    return path.with_name(name)


def _write_slides(folder: Path) -> Slide:
    pixels = np.random.default_rng(0).integers(100, 250, (256, 256, 3), np.uint8)
    scale = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER", "tile": (64, 64)}
    tifffile.imwrite(folder / "slide.tif", pixels, photometric="rgb", compression="jpeg", metadata=None, **scale)
    facts = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["Red", "Green", "Blue"]}}
    planes = np.moveaxis(pixels, -1, 0).copy()
    tifffile.imwrite(folder / "slide.ome.tif", planes, photometric="minisblack", ome=True, metadata=facts, **scale)
    for name in ("slide.png", "slide.jpg"):
        Image.fromarray(pixels).save(folder / name)
    return Slide(_copy(folder / "slide.tif", "sound.tif"))


def _read_slide(path: Path) -> object:
    slide = Slide(path, fallback_mpp=0.5)
    return slide.read_region_px((0, 0), (64, 64), 1.0), slide.thumbnail(64)


def _write_record(path: Path, outline: MultiPolygon) -> Path:
    counts = PixelCounts(np.zeros(1), np.ones(1), np.ones((2, 2)))
    SlideRecord(
        "a", 1, 2.0, 1.0, 0.25, (1000, 800), True, [], outline, np.array([[0.5, 1.0, 2.0]]), counts,
        np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4), np.float32), patches=Patches(9.0, np.ones(2), np.zeros(2)),
    ).save(path, "key")  # fmt: skip
    return path


def _read_manifest(path: Path) -> object:
    try:
        listed = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # the Hub's client reads the file
        raise DamagedFileError(f"{path}: {error}") from error
    return join_manifest(listed, str(path), path.parent, FEATURES)


def fuzz(count: int, chosen: list[str] | None = None, seed: int = 0) -> Iterator[tuple[str, Counter]]:
    """(reader, how often what happened) for so many damaged inputs each."""
    with tempfile.TemporaryDirectory() as name:
        for reader, (path, read) in readers(Path(name)).items():
            if chosen and reader not in chosen:
                continue
            sound, rng = path.read_bytes(), np.random.default_rng([seed, zlib.crc32(reader.encode())])
            read(path)
            yield reader, Counter(_outcome(path, damage(sound, rng), read) for _ in range(count))
            path.write_bytes(sound)


def _outcome(path: Path, data: bytes, read: Callable[[Path], object]) -> str:
    path.write_bytes(data)
    started = time.monotonic()
    try:
        read(path)
        outcome = "read"
    except (ValueError, SlideError) as error:
        named = path.name in str(error) or path.stem in str(error)
        outcome = "refused by name" if named else f"without its name: {type(error).__name__}: {str(error)[:60]}"
    except Exception as error:  # what this benchmark looks for
        outcome = f"{type(error).__name__}: {str(error)[:80]}"
    return outcome if time.monotonic() - started < SLOW_S else f"slow: {outcome}"


def main() -> None:
    logging.disable(logging.CRITICAL)
    table, faults = csv.writer(sys.stdout, delimiter="\t"), 0
    table.writerow(("reader", "inputs", "read", "refused by name", "faults"))
    for reader, counts in fuzz(int(sys.argv[1]), sys.argv[2:]):
        wrong = {what: n for what, n in counts.items() if what not in ("read", "refused by name")}
        faults += sum(wrong.values())
        table.writerow((reader, counts.total(), counts["read"], counts["refused by name"], sum(wrong.values())))
        for what, n in sorted(wrong.items(), key=lambda item: -item[1])[:8]:
            print(f"    {n}x {what}", flush=True)
    sys.exit(int(faults > 0))


if __name__ == "__main__":
    main()
