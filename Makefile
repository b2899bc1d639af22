# make install | reproduce | test | lab | lint.   Variables: VENV PYTHON TORCH_INDEX JOBS RESULTS
VENV ?= .venv
PYTHON ?= python3
# A Linux machine without a GPU saves gigabytes of CUDA wheels: TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
JOBS ?= 2
RESULTS ?= results

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
STRIP := $(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill cell.metadata.papermill metadata.widgets metadata.language_info.version"
NOTEBOOKS = $(shell find notebooks -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*')

.PHONY: install reproduce test lab lint strip
.DELETE_ON_ERROR:

install: $(VENV)/.installed

reproduce: $(VENV)/.installed
	$(BIN)/python -m trackerlib run --profile smoke --jobs $(JOBS) --results $(RESULTS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow"

lab: $(VENV)/.installed
	$(BIN)/python -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(STRIP) --verify $(NOTEBOOKS)

# Take outputs and run metadata out of the notebooks before they are committed.
strip: $(VENV)/.installed-dev
	$(STRIP) $(NOTEBOOKS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: trackerlib wants Python 3.11 to 3.13, $(PYTHON) is another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "error: $(PYTHON) cannot make an environment: install its venv module (Debian: apt install python3-venv)" >&2; \
	  exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed
	$(PIP) -e '.[dev]'
	@touch $@
