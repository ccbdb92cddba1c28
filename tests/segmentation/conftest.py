"""The networks and slides of the tests of tiles."""

from tests.inference.conftest import dark_network, model, noise_slide  # noqa: F401
