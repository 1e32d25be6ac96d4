# Everything the project needs is installed here, into .venv, from the package registry alone.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN ?= runs/demo

.PHONY: help install demo test test-slow gpu check format bench clean

help:
	@echo "make demo       install, then run the whole pipeline on handwritten digits"
	@echo "make test       install, then run the tests"
	@echo "make test-slow  the tests that take minutes (full runs on real data)"
	@echo "make gpu        with a GPU: its tests, teachers taught from random weights, their students"
	@echo "make check      ruff, mypy --strict, import-linter"
	@echo "make bench      the benchmarks, as JSON under benchmarks/out/"
	@echo "make clean      remove caches and runs, keep the environment"

install: $(STAMP)

# torch and torchvision come first and together: a torch that some other requirement had chosen
# (or a CPU-only wheel lying on disk) would not load torchvision's compiled operators.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found; set PYTHON=/path/to/python"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -c "import torch, torchvision; torchvision.ops.nms" || \
	  { echo "torch and torchvision do not match; rm -r $(VENV) and try again"; exit 2; }
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: install
	$(BIN)/distill run configs/digits.toml --baselines --run $(RUN)

test: install
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

test-slow: install
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow

# resumable: what is finished is kept under runs/study/
gpu: install
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m gpu
	$(BIN)/python -m benchmarks.study.scratch
	$(BIN)/python -m benchmarks.study.students cifar10-resnet50 --workers 4
	$(BIN)/python -m benchmarks.study.students tinyimagenet32-resnet50 --workers 4
	$(BIN)/python -m benchmarks.study.students cifar10-resnet50-tenth --workers 4
	$(BIN)/python -m benchmarks.study.students tinyimagenet32-resnet50-tenth --workers 4

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks

clean:
	rm -rf runs benchmarks/out .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
