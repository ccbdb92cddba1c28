"""Which slides a command takes, and what is said of figures that are not of test slides."""

from pathlib import Path

import pytest
from datasets import Dataset

from wsi_hf.cli.slides import slides_of_split
from wsi_hf.evaluation.summary import summary_lines

TABLE = Path("slides.csv")


def cohort(*splits: str) -> Dataset:
    return Dataset.from_dict({"slide_id": [f"s{i}" for i in range(len(splits))], "split": list(splits)})


def test_a_table_without_splits_is_taken_whole():
    rows = cohort("train", "train", "train")
    for usual in ("test", "validation"):
        assert slides_of_split(rows, None, usual, TABLE)["slide_id"] == ["s0", "s1", "s2"]


def test_the_usual_split_goes_before_others_and_what_was_asked_for_before_it():
    rows = cohort("train", "test", "validation")
    assert slides_of_split(rows, None, "test", TABLE)["slide_id"] == ["s1"]
    assert slides_of_split(rows, "train", "test", TABLE)["slide_id"] == ["s0"]


def test_a_choice_between_several_is_the_users():
    rows = cohort("train", "validation")
    for asked, usual in ((None, "test"), ("test", "validation")):
        with pytest.raises(ValueError, match="no test slides; it has train, validation: say with --split"):
            slides_of_split(rows, asked, usual, TABLE)


@pytest.mark.parametrize(("split", "said"), [("test", "point"), ("train", "point, perhaps set on these very slides")])
def test_figures_at_an_operating_point_of_the_same_slides_are_told_apart(split, said):
    (line,) = summary_lines({"decision": {"calibrated": True}, "cohort": {"split": split}})
    assert line == f"judged on: {split} slides; 0.5 is the operating {said}"
