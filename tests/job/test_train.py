"""`wsi-hf train` as it is typed: a trained, judged folder from a table of slides; clear words where something fails."""

import csv
import json

import yaml

from wsi_hf.cli import main
from wsi_hf.cohorts.camelyon16 import load_cohort

OPTIONS = {
    "filters": 2, "depth": 1, "max_steps": 2, "patch_size": 16, "per_device_train_batch_size": 2, "shuffle_buffer": 2,
    "steps_per_round": 1, "slides_per_round": 2, "beta_1_warmup_start": 0, "beta_1_warmup_steps": 0, "warmup_steps": 0,
    "mapping": "inline", "mapping_tile_size": 128, "use_cpu": True, "cpu_threads": 1, "disable_tqdm": True,
}  # fmt: skip
SMALL = [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]


def write_table(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "annotation"])
        writer.writerows([row["path"], row["label"], row["split"], row["annotation"]] for row in rows)
    return str(path)


def test_a_table_of_slides_becomes_a_judged_model(tiny_cohort, tmp_path, capsys):
    table = write_table(tmp_path / "slides.csv", load_cohort(tiny_cohort))
    assert main(["train", "--cohort", table, "--output_dir", str(tmp_path / "run"), *SMALL]) == 0
    said = capsys.readouterr().out
    assert "train       3 benign, 3 malignant" in said
    assert "recipe      own (discover, then harden" in said
    assert "missing     3 benign training slides are few" in said
    assert "calibrate a model that others trained: wsi-hf calibrate" in said
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["slide_auc"]["n"] == 4
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["cohort"] == table
    command = next(line for line in said.splitlines() if line.startswith("    ") and " --model " in line).split()
    typed = command[command.index("segment") : -1]  # the last word is a folder of this machine's current one
    assert main([*typed, str(tmp_path / "maps"), "--device", "cpu"]) == 0


def test_a_cohort_with_nothing_to_judge_on_trains_and_says_so(tiny_cohort, tmp_path, capsys):
    rows = [row for row in load_cohort(tiny_cohort) if row["slide_id"] in ("normal_001", "tumor_001")]
    table = write_table(tmp_path / "slides.csv", rows)
    assert main(["train", "--cohort", table, "--output_dir", str(tmp_path / "run"), *SMALL]) == 0
    said = capsys.readouterr().out
    assert "Not judged: no test and no validation slides" in said
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_errors_are_said_once_and_nothing_is_written(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "--cohort", str(tmp_path / "none.csv"), "--output_dir", str(out), *SMALL]) == 1
    assert main(["train", "--alhpa", "2"]) == 1
    assert main(["train", "--recipe", "bread", *SMALL]) == 1
    assert not out.exists()
