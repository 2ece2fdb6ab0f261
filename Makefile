# Two commands matter: `make demo` and `make test`. Both make .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-all checks lint types imports unit backends extras soak gpu native sanitize format clean

demo: .venv/.installed
	$(BIN)/python examples/demo.py

# What a change can break, in minutes.
test: checks unit backends

# Two at a time, each one's lines together.
checks: .venv/.installed-dev
	$(MAKE) --no-print-directory -j2 --output-sync=target types lint imports

# Everything, an hour or more: the slow tests, every backend, the soaks, the newest releases of what is depended on.
# Writes docs/results/test_all.md; PARTS="jax soak" runs these parts alone.
test-all: .venv/.installed-extras
	$(BIN)/python tests/support/test_all.py $(PARTS)

CPP := $(wildcard $(foreach type,h cpp cc cu,zoo/kernels/*/src/*.$(type) tests/support/*.$(type) tests/support/*/*.$(type)))

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)

types: .venv/.installed-dev
	$(BIN)/mypy

imports: .venv/.installed-dev
	$(BIN)/lint-imports

# Files by name: xdist would leave those with few tests to the end, and some of these are the longest.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

unit: .venv/.installed-dev
	KERAS_BACKEND=tensorflow $(PYTEST) -m "not slow" --durations=40

# What can differ by backend, once more on JAX.
backends: .venv/.installed-dev
	KERAS_BACKEND=jax $(PYTEST) -m "any_backend and not slow" --durations=10

# What needs more than the dev extra: torch, and NVIDIA's compiler.
NEED_EXTRAS := tests/kernels/test_cuda_compile.py tests/kernels/test_cuda_compiler.py

extras: .venv/.installed-extras
	KERAS_BACKEND=torch $(PYTEST) -m "any_backend and not slow" --durations=10
	KERAS_BACKEND=tensorflow $(PYTEST) -m "not slow" $(NEED_EXTRAS)

# Runs and studies killed at random moments; a server under load, under attack and killed. Writes docs/results/soak.md
# and docs/results/serving_soak.md (twenty minutes).
soak: .venv/.installed-dev
	$(BIN)/python tests/support/kills.py
	$(BIN)/python tests/support/serving_soak.py

# All that only a machine with an NVIDIA GPU can say, with the packages that its Python has: tests, race checks, benchmark,
# profile (nine minutes). Writes to build/gpu, or where OPTIONS="--output DIRECTORY" says.
gpu:
	$(PYTHON) benchmarks/gpu_checks.py $(OPTIONS)

# The native engine built anew, and its stress program under three sanitizers (about four minutes).
native: .venv/.installed-dev
	$(BIN)/python zoo/kernels/native/build.py

sanitize: .venv/.installed-dev
	$(BIN)/python zoo/kernels/native/build.py --sanitize all

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed, this is ' + sys.version) if sys.version_info < (3, 11) else 0"
	$(PYTHON) -m venv .venv

INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[serve]"
	touch $@

.venv/.installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev]"
	touch $@

.venv/.installed-extras: .venv/.installed-dev
	$(INSTALL) torch nvidia-cuda-nvrtc
	touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
