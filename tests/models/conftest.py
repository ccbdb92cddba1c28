"""The networks and slides of the tests of tiles."""

from tests.inference.conftest import model, noise_slide  # noqa: F401
