# `make demo` and `make test` need Python >= 3.11 and a C++20 compiler, nothing else: each makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

NATIVE := CMakeLists.txt pyproject.toml constraints.txt $(shell find native -type f 2>/dev/null)

.PHONY: demo test test-all native-test neon-test lint types fast bench models clean help

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

$(VENV)/python.stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "o3bnn needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# The base package and what its report needs: enough for the demo.
$(VENV)/demo.stamp: $(VENV)/python.stamp $(NATIVE)
	$(PIP) -e '.[report]'
	touch $@

# Everything that the tests use. torch comes first, pinned, so that the extra's wider range installs nothing larger.
$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(PIP) torch
	$(PIP) -e '.[train,onnx,report,dev]'
	touch $@

## make demo       classify images with shipped networks, count pruned edges, write o3bnn-demo.html
demo: $(VENV)/demo.stamp
	$(BIN)/o3bnn demo

## make test       style, types, tests, the README's code (under 15 minutes on 2 cores)
test: $(VENV)/dev.stamp lint types
	$(BIN)/python -m pytest -n $(JOBS)

## make test-all   the same with the slow suites and the native tests
test-all: $(VENV)/dev.stamp lint types native-test neon-test
	$(BIN)/python -m pytest -n $(JOBS) -m 'slow or not slow'

NATIVE_TEST := cmake -S . -DO3BNN_BUILD_TESTS=ON -DO3BNN_WERROR=ON -B
AARCH64 := -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
	-DCMAKE_EXE_LINKER_FLAGS=-static
SANITIZE := -DO3BNN_WERROR=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	-DCMAKE_CXX_FLAGS='-fsanitize=address,undefined -fno-sanitize-recover=all'

## make native-test  every kernel of this machine against loops over bits, with guard pages; again with sanitizers (CMake)
native-test:
	$(NATIVE_TEST) build/native-test
	cmake --build build/native-test --parallel $(JOBS)
	build/native-test/kernel_test
	$(NATIVE_TEST) build/native-sanitized $(SANITIZE)
	cmake --build build/native-sanitized --parallel $(JOBS) --target kernel_test
	build/native-sanitized/kernel_test

## make neon-test   every tenth shape of the same for NEON, emulated (Debian: g++-aarch64-linux-gnu qemu-user-static)
neon-test:
	$(NATIVE_TEST) build/neon-test $(AARCH64)
	cmake --build build/neon-test --parallel $(JOBS)
	qemu-aarch64-static build/neon-test/kernel_test 10

## make fast       the tests without the equality gate (about a minute)
fast: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(JOBS) --ignore tests/test_equality_gate.py

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

## make models     train the shipped MNIST models again (DATA=folder of the MNIST files)
models: $(VENV)/dev.stamp
	$(BIN)/python bench/train_mnist.py --data $(DATA) --out src/o3bnn/shipped

## make bench      time the engine, results to results/
bench: $(VENV)/dev.stamp
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/threads.py

clean:
	rm -rf $(VENV) build
