"""Imports go down only: a room may use the rooms on the floors below it and itself."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "wsi_hf"
FLOORS = [
    {"models", "slides", "hub"},
    {"cohorts", "inference", "sampling"},
    {"segmentation", "mapping"},
    {"calibration"},
    {"evaluation", "training"},
    {"reports", "registration"},
    {"job", "viewer"},
    {"cli", "__init__"},
]
FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of the package that a file imports from, absolute or relative."""
    rooms = set()
    depth = len(path.relative_to(PACKAGE).parts)  # dots that lead to the package itself
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if node.level == 0 and parts[0] == "wsi_hf" and len(parts) > 1:
                rooms.add(parts[1])
            elif node.level == depth and parts[0]:
                rooms.add(parts[0])
            elif 0 < node.level < depth:
                rooms.add(room_of(path))
    return rooms


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    room = room_of(path)
    for other in imported_rooms(path) - {room}:
        assert FLOOR_OF[other] < FLOOR_OF[room], f"{path.name} in {room} imports {other}"


def test_models_import_each_other_flat_so_that_they_travel_as_remote_code():
    for path in (PACKAGE / "models").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("wsi_hf")):
                assert node.level == 1, path.name
                assert node.module, path.name
                assert "." not in node.module, path.name


def test_only_mapping_joins_inference_to_sampling():
    joining = [
        p for p in PACKAGE.rglob("*.py") if {"inference", "sampling"} <= imported_rooms(p) and room_of(p) != "__init__"
    ]
    assert {path.name for path in joining} <= {
        "mapper.py",
        "slide_queue.py",
        "first_maps.py",
        "windows.py",
        "trainer.py",
        "slide_evaluation.py",
    }


@pytest.mark.parametrize("room", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=lambda p: p.name)
def test_rooms_and_files_stay_small(room):
    files = [path for path in room.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert len(files) <= 14
    assert not [path.name for path in files if len(path.read_text().splitlines()) > 250]
