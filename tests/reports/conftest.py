"""An evaluated folder, shared with the tests of its numbers."""

from tests.evaluation.conftest import evaluated, model_folder  # noqa: F401
