"""A disk that fills up while maps are written: a clear error that names the slide, and nothing half-written."""

import resource

import pytest

from wsi_hf.mapping.child import MappingChild
from wsi_hf.sampling.map_store import MappingError, report_failure, wait_for
from wsi_hf.sampling.probability_map import default_map

from .conftest import make_trainer
from .processes import begin, finish

LIMIT = 16_000
"""Bytes a file may have: a true limit of the operating system, under which weights and indexes fit, maps do not."""


def save_under_a_limit(folder) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    with pytest.raises(OSError, match="slide_7: its map cannot be written"):
        default_map("slide_7", (512, 512), 1.0, None, map_stride=1).save(folder / "map.safetensors")
    assert not list(folder.iterdir())


def test_a_map_that_does_not_fit_names_its_slide_and_leaves_nothing(tmp_path):
    process = begin(save_under_a_limit, tmp_path)
    finish(process)
    assert process.exitcode == 0


def fail_without_any_space(folder) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    report_failure(folder, "the mapping process ended")
    with pytest.raises(MappingError, match="the disk may be full"):
        wait_for(folder / "0.json", folder)


def test_a_failure_is_told_even_where_nothing_can_be_written(tmp_path):
    process = begin(fail_without_any_space, tmp_path)
    finish(process, seconds=60)
    assert process.exitcode == 0


def test_a_mapper_without_space_stops_the_training_with_a_checkpoint(tmp_path, slides, monkeypatch):
    trainer = make_trainer(tmp_path, slides, mapping="child", map_stride=1, slides_per_round=2)
    launch = MappingChild.launch

    def launch_with_little_space(child):
        launch(child)
        resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    monkeypatch.setattr(MappingChild, "launch", launch_with_little_space)
    with pytest.raises(MappingError, match=r"(normal|tumor)_00\d: its map cannot be written"):
        trainer.train()
    assert list(tmp_path.glob("checkpoint-*/mapping"))
    assert not list((tmp_path / "_mapping").rglob("*.part*"))
    assert {path.name.split(".")[1] for path in (tmp_path / "_mapping" / "maps").iterdir()} == {"-1"}
