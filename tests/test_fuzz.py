"""Damaged files of every kind: read, or refused by name. Many more of them: benchmarks/fuzz_readers.py."""

import importlib.util
import logging
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks/fuzz_readers.py"


def test_every_reader_of_foreign_files_reads_or_refuses_by_name():
    spec = importlib.util.spec_from_file_location("fuzz_readers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    logging.disable(logging.CRITICAL)
    try:
        results = dict(module.fuzz(100, seed=0))
    finally:
        logging.disable(logging.NOTSET)
    assert len(results) == 19
    for reader, outcomes in results.items():
        assert set(outcomes) <= {"read", "refused by name"}, (reader, outcomes)
