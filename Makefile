# Two commands: `make demo` runs the main job on the embedded cohort, `make test` passes the tests.
# Each builds .venv first. On a machine without a GPU set PIP_CONSTRAINT to a file that says `torch==2.13.0`
# (or any CPU build) to spare the download of the CUDA libraries.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint docs clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/wsi-hf train

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.ready
	$(BIN)/mkdocs build --strict --site-dir build/site

clean:
	rm -rf $(VENV)
