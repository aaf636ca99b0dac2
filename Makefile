# Two commands for a fresh clone: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUBS_VERSION := 10.13.0.35.1
LEAN_VERSIONS := 10.16.1.11 11.0.0.114 11.4.0.106
UV_VERSION := 0.13.9

.PHONY: demo test check fmt setup clean gpu figures lean fuzz lowest
.DEFAULT_GOAL := test

demo: setup
	$(BIN)/lfm-deploy demo

# Two processes with a core each, a file of tests to each; what takes long to make is made once for both. A third
# process on two cores makes it slower.
test: check
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10 $(PYTEST_OPTIONS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# On a machine with a GPU, with the Python that has PyTorch for CUDA; nothing is installed. For example
# make gpu GPU_OPTIONS="--checkpoint model.pth --graph deploy/lfm.fp16.onnx --golden golden.npz"
# Folders of PYTHONPATH stay: what that Python lacks may lie there.
GPU_PYTHON ?= python3
gpu:
	PYTHONPATH=".$${PYTHONPATH:+:$$PYTHONPATH}" $(GPU_PYTHON) benchmarks/gpu.py $(GPU_OPTIONS)

# What the pages say of the published checkpoint, measured over all pictures of ../shared; a quarter of an hour. The
# tests score a sample of them, and ask for this where the code that INT8 comes from has changed.
figures: setup
	$(BIN)/python benchmarks/published_figures.py ../shared

# Ten thousand damaged and odd files; for example make fuzz FUZZ_OPTIONS="--seed 1 --kinds tar,zip"
fuzz: setup
	$(BIN)/python benchmarks/fuzz.py $(FUZZ_OPTIONS)

# The lowest versions that pyproject.toml allows: an environment of 2.5 GB, the commands and the tests in it.
lowest: setup
	test -x .lowest/tool/bin/uv || { $(PYTHON) -m venv .lowest/tool && \
	  .lowest/tool/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	$(BIN)/python benchmarks/lowest.py .lowest $(LOWEST_OPTIONS)

setup: $(VENV)/.ready .stubs/.ready

# pip compiles 21,000 files one after the other, half of its time; here each core takes some. Packages hold a few that
# are not Python of this version, which pip passes over, too.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "lfm-deploy needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[cpu,openvino,amx,rtx,kernels,fast-jpeg,heic,demo,provenance,parquet,ray,remote,train,serve,dev]'
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	touch $@

# TensorRT itself cannot be installed without NVIDIA's index; its published type stubs can, apart from it, since an
# importable folder of stubs would look like the library. Four of their lines are not valid Python, and a constant
# named bool hides the type.
.stubs/.ready: $(VENV)/.ready
	rm -rf .stubs
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .stubs tensorrt-stubs==$(STUBS_VERSION)
	sed -i -E -e 's/, in: list/, in_: list/' -e 's/(power: Weights = None, channel_axis: int)\)/\1 = ...)/' -e '/^bool: /d' \
	  .stubs/tensorrt_bindings/tensorrt.pyi
	touch $@

# TensorRT's runtime without its builder, from the ordinary index: the tests hold the names that engines/ uses against
# it. The bindings alone (0.8 MB) do not import without their library (44 MB), so this is apart from `make setup`.
lean: $(LEAN_VERSIONS:%=.lean/%/.ready)

.lean/%/.ready: $(VENV)/.ready
	rm -rf .lean/$*
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .lean/$* \
	  tensorrt-lean-cu13-bindings==$* tensorrt-lean-cu13-libs==$*
	touch $@

clean:
	rm -rf $(VENV) .stubs .lean .lowest .mypy_cache .ruff_cache .pytest_cache dist build
