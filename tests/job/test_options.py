"""Options of a job: recipe, then run.yaml, then the command line; and what the recipe is chosen by."""

import csv
from pathlib import Path

import pytest
import yaml

from wsi_hf.cohorts.camelyon16 import load_cohort
from wsi_hf.job.help import groups, help_text
from wsi_hf.job.launch import launch_options, start, without
from wsi_hf.job.options import arguments_of, job_parser, parse, write_run
from wsi_hf.job.recipes import RECIPES, Seen, choose_recipe, own_recipe
from wsi_hf.job.slides import parted
from wsi_hf.training.arguments import WsiTrainingArguments

BASE = ["--use_cpu", "True"]


def values(*arguments: str):
    return parse(job_parser(), [*BASE, *arguments])[0]


@pytest.fixture
def table(tiny_cohort: Path, tmp_path: Path) -> Path:
    """One's own slides: a CSV table of the training slides, without splits or outlines."""
    path = tmp_path / "slides.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows([row["path"], row["label"]] for row in load_cohort(tiny_cohort) if row["split"] == "train")
    return path


def test_command_line_goes_before_yaml_and_yaml_before_recipe(tmp_path):
    (tmp_path / "run.yaml").write_text("alpha: 3\nlearning_rate: 1e-3\nbeta_1_warmup_start: 7\n")
    given = values("--config", str(tmp_path / "run.yaml"), "--alpha", "4")
    assert (given.alpha, given.learning_rate, given.beta_1_warmup_start) == (4.0, 1e-3, 7)
    assert given.max_steps == RECIPES["demo"]["max_steps"]
    assert given.recipe == "demo"


def test_what_is_written_repeats_the_run(tmp_path, table):
    first = values("--cohort", str(table), "--seed", "5", "--alpha", "1.5", "--hub_token", "secret")
    write_run(first, tmp_path)
    text = (tmp_path / "run.yaml").read_text()
    assert "secret" not in text
    assert yaml.safe_load(text)["alpha"] == 1.5
    again = values("--config", str(tmp_path / "run.yaml"))
    same = [{k: v for k, v in vars(n).items() if k not in ("config", "why", "hub_token")} for n in (first, again)]
    assert same[0] == same[1]
    assert arguments_of(again)[1].alpha == 1.5


def test_a_misspelt_option_of_the_yaml_is_named(tmp_path):
    (tmp_path / "run.yaml").write_text("patchsize: 3\n")
    with pytest.raises(ValueError, match="no option patchsize; is patch_size meant"):
        values("--config", str(tmp_path / "run.yaml"))


def test_own_slides_never_get_the_recipe_that_fails_most(table):
    given = values("--cohort", str(table))
    assert given.recipe == "own"
    assert 0 < given.beta_1_warmup_start < given.beta_1_warmup_start + given.beta_1_warmup_steps < given.max_steps
    assert choose_recipe(Seen(1, 1, 0.6, gpu=False, synthetic=True))[0] == "demo"


@pytest.mark.parametrize("malignant", [1, 6, 60, 600])
@pytest.mark.parametrize("gpu", [False, True])
def test_the_recipe_for_own_slides_maps_every_malignant_slide_five_times(malignant, gpu):
    recipe = own_recipe(Seen(malignant, malignant, 100.0, gpu))
    rounds = recipe["max_steps"] / recipe["steps_per_round"]
    assert rounds * recipe["slides_per_round"] / 2 >= 5 * malignant
    WsiTrainingArguments(output_dir="x", use_cpu=True, **{k: v for k, v in recipe.items() if k in FIELDS - {"bf16"}})


FIELDS = set(WsiTrainingArguments.__dataclass_fields__)


def test_all_options_of_the_method_have_a_place_in_the_help():
    parser = job_parser()
    placed = {name for names in groups().values() for name in names}
    assert set(WsiTrainingArguments.__annotations__) - placed == {"remove_unused_columns", "ddp_find_unused_parameters"}
    text, everything = help_text(parser), help_text(parser, everything=True)
    assert "--beta_1_warmup_start" in text
    assert "--adam_beta2" not in text
    assert all(f"--{action.dest}" in everything for action in parser._actions if action.dest != "help")


def test_options_of_the_launcher_are_told_from_those_of_the_job(capsys):
    words = ["--num_processes", "2", "--alpha", "2", "--multi_gpu"]
    others = job_parser().parse_known_args(words)[1]
    assert launch_options(others) == ["--num_processes", "2", "--multi_gpu"]
    assert without(words, others) == ["--alpha", "2"]
    with pytest.raises(ValueError, match="no option --alhpa"):
        launch_options(["--alhpa", "2"])
    assert start(["--help"]) == 0
    assert "--cohort" in capsys.readouterr().out


def test_a_network_that_is_known_is_trained_at_its_own_resolution(table):
    assert (values("--cohort", str(table)).mpp, values("--cohort", str(table), "--model", "x").mpp) == (2.0, 1.0)


def test_a_cohort_too_small_for_validation_is_not_split(table):
    cohort = load_cohort(table)
    few = parted(cohort.select([cohort["label"].index(0), cohort["label"].index(1)]), 0.125, seed=0)
    assert (len(few.train), few.watched, few.judged[0]) == (2, None, "")
    assert "too few" in few.notes[0]
    whole = parted(cohort, 0.125, seed=0)  # four of a class: too few to set four of them aside
    assert (len(whole.train), len(whole.validation), whole.judged[0]) == (6, 2, "validation")
    with pytest.raises(ValueError, match="no malignant training slide"):
        parted(cohort.select([cohort["label"].index(0)]), 0.125, seed=0)
