"""Trainings of a few steps, shared with the tests of the training process."""

from tests.training.conftest import reference, slides  # noqa: F401
