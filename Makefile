# Every target works on a fresh machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.biozoo-setup
RUN    := $(VENV)/.biozoo-run
# onnxruntime and onnxruntime-gpu exclude each other: the GPU build only where NVIDIA's driver is.
RUNTIME := $(if $(wildcard /proc/driver/nvidia/version),gpu,cpu)
MODEL  ?= nuclei-fluo
PORT   ?= 7860

.PHONY: help setup setup-browser setup-coverage run demo check lint types layers test test-cuda bench coverage clean

help:            ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## everything into .venv: all weights and image formats, the page, the tools (9 GB)

# What the page and ONNX models need; the other weights formats would add 7 GB of frameworks.
$(RUN): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "biozoo needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	    || { rm -rf $(VENV); echo "Python cannot make a virtual environment here (Debian: apt-get install python3-venv)."; exit 3; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME),ui]'
	@touch $@

$(STAMP): $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	    -e '.[$(RUNTIME),ui,torch,keras,tensorflow,openvino,stardist,cellpose,dask,pack,onnx2torch,keras2onnx,train,dev]'
	@touch $@

setup-browser:   ## Debian's Chromium, for the tests marked browser
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium fonts-noto-color-emoji >/dev/null; }
	@chromium --version

setup-coverage: setup  ## the libraries whose architectures docs/coverage.md lists
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[coverage]'

run: $(RUN)      ## the page at http://127.0.0.1:7860
	$(BIN)/zoo ui --port $(PORT)

demo: $(RUN)     ## one run on the command line, on a simulated image
	@mkdir -p out
	$(BIN)/zoo sample nuclei -o out/cells.ome.tif
	$(BIN)/zoo check $(MODEL) out/cells.ome.tif
	$(BIN)/zoo run $(MODEL) out/cells.ome.tif -o out/

check: lint types layers test  ## everything that CI asks

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

# Two processes; a file stays in one of them, as its fixtures are costly. A test of real processes and
# pages can run out of its time beside another one: what failed runs once more, alone, and is named.
TESTS := $(BIN)/python -m pytest -q
test: setup      ## the tests (shared and browser ones where their material is)
	$(TESTS) -n 2 --dist loadfile || { test $$? = 1 && echo "What failed, once more and alone:" \
	    && $(TESTS) --last-failed --last-failed-no-failures none; }

test-cuda: setup ## the tests that need an NVIDIA card
	$(BIN)/python -m pytest -q -m cuda

bench: setup     ## the budgets of the design, each as a ratio within one run
	$(BIN)/python benchmarks/run.py; r=$$?; $(BIN)/python benchmarks/precision.py || r=1; \
	    $(BIN)/python benchmarks/large.py || r=1; exit $$r

# Libraries that pip does not install beside ours go into a folder of their own, see docs/coverage.md.
coverage: setup-coverage ## docs/coverage.md: real architectures through zoo pack, what is not measured yet
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	    --target build/coverage/libraries -r benchmarks/architectures/libraries.txt
	$(BIN)/python benchmarks/coverage_table.py

clean:           ## what the targets above made, but not .venv
	rm -rf out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
