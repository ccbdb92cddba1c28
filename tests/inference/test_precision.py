"""The device decides between float32 and bfloat16; whoever decides for it is warned."""

import pytest
import torch
from transformers import HfArgumentParser

from wsi_hf import WsiTrainingArguments
from wsi_hf.inference import precision


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, torch.bfloat16), (20.0, torch.float32)])
def test_the_faster_format_is_chosen_and_said(monkeypatch, caplog, ratio, chosen):
    monkeypatch.setattr(precision, "bf16_over_float32", lambda _: ratio)
    assert precision.choose_dtype("auto", "cpu") == chosen
    assert f"runs in {str(chosen).removeprefix('torch.')}" in caplog.text


def test_an_explicit_choice_stands_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(precision, "bf16_over_float32", lambda _: 20.0)
    assert precision.choose_dtype("bfloat16", "cpu") == torch.bfloat16
    assert "20 times as long" in caplog.text
    assert precision.choose_dtype("float16", "cpu") == torch.float16
    with pytest.raises(ValueError, match="float8"):
        precision.choose_dtype("float8", "cpu")


def test_the_probe_takes_about_a_second_and_finds_a_ratio():
    assert 0 < precision.bf16_over_float32("cpu") < float("inf")


@pytest.mark.parametrize(
    ("given", "ratio", "bf16"),
    [([], 0.5, False), (["--bf16"], 9.0, True), (["--bf16", "auto"], 9.0, False), (["--bf16", "auto"], 0.5, True),
     (["--bf16", "auto", "--fp16"], 0.5, False)],
)  # fmt: skip
def test_bf16_auto_on_the_command_line(monkeypatch, tmp_path, given, ratio, bf16):
    monkeypatch.setattr(precision, "bf16_over_float32", lambda _: ratio)
    line = ["--output_dir", str(tmp_path), "--use_cpu", "True", *given]
    (args,) = HfArgumentParser(WsiTrainingArguments).parse_args_into_dataclasses(line)
    assert args.bf16 is bf16
    assert args.mapping_dtype == ("bfloat16" if bf16 else "float16" if "--fp16" in given else "float32")


def test_the_mapping_may_have_a_format_of_its_own(tmp_path):
    args = WsiTrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=True, mapping_dtype="float32")
    assert args.mapping_dtype == "float32"
    with pytest.raises(ValueError, match="mapping_dtype"):
        WsiTrainingArguments(output_dir=str(tmp_path), use_cpu=True, mapping_dtype="int8")
    with pytest.raises(ValueError, match="bf16"):
        WsiTrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16="perhaps")
