"""A folder of two segmented slides, of which it is known where they are dark, that is malignant."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely import box
from starlette.testclient import TestClient

from tests.evaluation.conftest import evaluated, model_folder  # noqa: F401
from tests.inference.conftest import dark_network, model  # noqa: F401
from wsi_hf.segmentation.runs import SegmentationFolder
from wsi_hf.slides.annotations import write_asap
from wsi_hf.slides.pyramid import write_pyramid
from wsi_hf.slides.slide import Slide
from wsi_hf.viewer.app import viewer_app
from wsi_hf.viewer.finding import find_shown_slides

LARGE, SMALL = (600, 400, 900, 700), (100, 100, 180, 180)
"""x0, y0, x1, y1 of the dark squares, level-0 pixels of 0.5 um."""
TOKEN = "a-token"


def write_run(folder: Path, network: Any) -> Path:
    """Segment `dark` and `light` in folder/slides into folder/maps."""
    (folder / "slides").mkdir()
    run = SegmentationFolder(folder / "maps", network, tissue=None)
    for name, squares in (("light", []), ("dark", [LARGE, SMALL])):
        pixels = np.full((900, 1200, 3), 230, np.uint8)
        for x0, y0, x1, y1 in squares:
            pixels[y0:y1, x0:x1] = (90, 20, 110)
        run.segment(Slide(write_pyramid(folder / "slides" / f"{name}.tif", pixels, 0.5)), tile_size=256)
    return folder / "maps"


@pytest.fixture(scope="session")
def segmented(tmp_path_factory: pytest.TempPathFactory, dark_network: Any) -> Path:  # noqa: F811
    return write_run(tmp_path_factory.mktemp("viewed"), dark_network)


@pytest.fixture
def maps(segmented: Path, tmp_path: Path) -> Path:
    """A copy to review."""
    return Path(shutil.copytree(segmented, tmp_path / "maps", symlinks=True))


@pytest.fixture
def cohort(segmented: Path, tmp_path: Path) -> list[Mapping[str, Any]]:
    """What a cohort knows of `dark`: an outline round the large square."""
    slide, outline = segmented.parent / "slides" / "dark.tif", write_asap(tmp_path / "dark.xml", box(*LARGE))
    return [{"slide_id": "dark", "path": str(slide), "label": 1, "annotation": str(outline)}]


@pytest.fixture
def client(maps: Path, cohort: list[Mapping[str, Any]]) -> TestClient:
    app = viewer_app(find_shown_slides([maps], cohort=cohort), TOKEN)
    return TestClient(app, base_url=f"http://127.0.0.1/{TOKEN}/", follow_redirects=False)
