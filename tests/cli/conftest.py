"""The networks and slides of the tests of tiles."""

import logging
from collections.abc import Iterator

import pytest

from tests.inference.conftest import dark_network, model, noise_slide  # noqa: F401


@pytest.fixture(autouse=True)
def _as_loud_as_before() -> Iterator[None]:
    """--quiet and --verbose are for a process; the tests that follow share this one."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
