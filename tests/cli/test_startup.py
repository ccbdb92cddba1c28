"""What the console script loads before it answers, and what `import wsi_hf` still does."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "matplotlib")
SCRIPT = "import sys, wsi_hf_command; sys.argv = ['wsi-hf', *{arguments}]; code = wsi_hf_command.main()"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["segment", "--help"]], ids=" ".join)
def test_help_loads_no_framework(arguments):
    loaded = run(SCRIPT.format(arguments=arguments) + f"; print([m for m in {HEAVY} if m in sys.modules], code)")
    assert loaded.splitlines()[-1] == "[] 0"


def test_importing_the_package_registers_model_and_task():
    code = "import wsi_hf; from transformers import AutoConfig; from transformers.pipelines import PIPELINE_REGISTRY\n"
    code += "print(AutoConfig.for_model('wsi-unet').filters, 'wsi-segmentation' in PIPELINE_REGISTRY.supported_tasks)"
    assert run(code).split() == ["32", "True"]


def test_a_command_of_the_console_script_registers_what_it_needs(tmp_path):
    code = SCRIPT.format(arguments=["segment", "x.svs", "--model", str(tmp_path / "none"), "--out", str(tmp_path)])
    assert run(code + "; print('wsi_hf.registration' in sys.modules, code)").split() == ["True", "1"]
