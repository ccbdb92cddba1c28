"""The session's one synthetic cohort, and one slide of it: drawn once, read by every test, written to by none."""

import os
from pathlib import Path

os.environ.pop("HF_HUB_OFFLINE", None)  # huggingface_hub reads it when imported; the Hub of the tests is on loopback

import pytest

from wsi_hf.cohorts.synthetic import synthesize_cohort


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CAMELYON16's layout: 4 + 4 training and 2 + 2 test slides of 256 um, tumour 10-20 % of the tissue."""
    folder = tmp_path_factory.mktemp("cohort") / "tiny"
    return synthesize_cohort(folder, n_train=8, n_test=4, size_um=256, seed=0, burden=(0.10, 0.20), processes=1)


@pytest.fixture(scope="session")
def synthetic_slide(tiny_cohort: Path) -> Path:
    """A malignant slide of 256 um; its outline is `annotations/tumor_001.xml` beside it."""
    return tiny_cohort / "images" / "tumor_001.tif"


@pytest.fixture(scope="session")
def synthetic_annotation(tiny_cohort: Path) -> Path:
    """The ASAP outline of `synthetic_slide`."""
    return tiny_cohort / "annotations" / "tumor_001.xml"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository, with real slides; tests that need it skip where it does not exist."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs real slides in a folder 'shared' beside the repository")
    return folder
