"""What is no Python file, but needed by one, must travel in the wheel."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "wsi_hf"


def test_every_file_of_the_package_is_in_the_wheel():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["wsi_hf"]
    taken = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    needed = {p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts}
    assert needed
    assert needed == taken


def test_every_folder_with_python_files_is_a_package():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder
