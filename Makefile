# Every target makes what it needs: a virtual environment in .venv with the versions of constraints.txt.
# On a machine without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gets the much
# smaller CPU build of torch.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_READY := $(VENV)/.installed-demo
TEST_READY := $(VENV)/.installed-test
TOOLS := build/tools
HERE = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
INPUTS := pyproject.toml constraints.txt
TESTS_AT_ONCE ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-gpu check-gpu test-gpu standin calibrate house mutants chaos fleet takeover power-loss corruption fuzz fuzz-inputs fuzz-guided fuzz-models bombs bad-server storage peers by-hand sbom hashes clean

help:
	@echo "make demo       install, embed the example data twice (once with a worker killed), compare"
	@echo "make test       install, run all tests"
	@echo "make check      install, run ruff, the formatter's check, mypy and bandit, build the documentation"
	@echo "make bench      install, measure throughput beside other systems, the roof and the bare loop; 20 minutes"
	@echo "make bench-gpu  measure ESM-2 650M and 3B on a CUDA device beside transformers and the device's peak"
	@echo "make check-gpu  what to run first on a CUDA device: ten minutes, in parts, nothing installed; OUT=FILE"
	@echo "make test-gpu   run the tests that want a CUDA device, nothing installed"
	@echo "make standin    install, run torch's CUDA code on a device that is not there; ARGS='--site SITE'"
	@echo "make calibrate  install, measure which token budget this device wants for models of several sizes"
	@echo "make chaos      install, break everything at random, compare; ARGS='--kills 1000 --minutes 60' for long"
	@echo "make fleet      install, pretend hosts by namespaces, measure what each misfortune costs; ARGS='--chaos' breaks them at random"
	@echo "make takeover   install, kill whole workers, time until another goes on, beside stock Celery"
	@echo "make power-loss install, rebuild what a power loss may leave of the store, see that nothing is gone"
	@echo "make storage    install, measure how fast checkpoints are written, resumed and verified"
	@echo "make fuzz       install, feed a fuzzer's inputs to everything that reads a store"
	@echo "make fuzz-inputs install, change 120,000 inputs at random, see that each is read whole or refused in a line"
	@echo "make fuzz-guided install, change inputs by what they reach of their readers; ARGS='--reader csv --minutes 5'"
	@echo "make bombs      install, read half gigabytes that are kilobytes on disk, see that none takes 512 MiB"
	@echo "make fuzz-models install, change 400 model directories at random, see that each is right or refused"
	@echo "make bad-server install, write 2,000 hostile messages to the server, see that the workers go on; ARGS=..."
	@echo "make corruption install, damage stores in every way, see that all of it is noticed and mended"
	@echo "make peers      install, hold Holdfast beside its peers while workers are killed"
	@echo "make by-hand    install, time the whole command beside what one would write by hand"
	@echo "make house      install, measure the code: longest import chain, fullest folder, heads, functions"
	@echo "make mutants    install, take the guards away one at a time, see that the tests notice"
	@echo "make sbom       install, list what the package brings along and under which licences, in build/sbom/"
	@echo "make hashes     ask the package index for the hashes in requirements-hashed*.txt again"
	@echo "make clean      remove the environment, the demo's output and all caches"

demo: $(DEMO_READY)
	$(BIN)/python examples/demo.py

# Most tests wait for processes of their own to die and come back, so that several at a time share a core.
test: $(TEST_READY)
	$(BIN)/python -m pytest --numprocesses $(TESTS_AT_ONCE) --dist worksteal

check: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --configfile pyproject.toml --quiet --recursive checkpoint gpu_tasks holdfast queue_app
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(TEST_READY)
	$(BIN)/python -m benchmarks.throughput $(ARGS)

calibrate: $(TEST_READY)
	$(BIN)/python -m benchmarks.token_budgets $(ARGS)

# On a machine that is lent for its GPU nothing is installed: neither a network nor a wheel of its own is needed.
bench-gpu:
	$(HERE) -m benchmarks.throughput --device cuda $(ARGS)

check-gpu:
	$(HERE) -m benchmarks.gpu --out $(or $(OUT),build/gpu.md) $(ARGS)

test-gpu:
	$(HERE) -m pytest -m gpu $(ARGS) $(shell grep --recursive --files-with-matches --include='test_*.py' mark.gpu tests)

standin: $(TEST_READY)
	$(BIN)/python -m tests.campaigns.cuda_standin $(ARGS)

house: $(TEST_READY)
	$(BIN)/python tests/support/house.py $(ARGS)

mutants: $(TEST_READY)
	$(BIN)/python -m benchmarks.mutants $(ARGS)

chaos: $(TEST_READY)
	$(BIN)/python -m benchmarks.chaos $(ARGS)

fleet: $(TEST_READY)
	$(BIN)/python -m benchmarks.fleet $(ARGS)

takeover: $(TEST_READY)
	$(BIN)/python -m benchmarks.takeover $(ARGS)

peers: $(TEST_READY)
	$(BIN)/python -m benchmarks.peers $(ARGS)

by-hand: $(TEST_READY)
	$(BIN)/python -m benchmarks.by_hand $(ARGS)

power-loss: $(TEST_READY)
	$(BIN)/python -m benchmarks.power_loss $(ARGS)

storage: $(TEST_READY)
	$(BIN)/python -m benchmarks.storage $(ARGS)

fuzz: $(TEST_READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -m benchmarks.fuzz $(ARGS)

fuzz-inputs: $(TEST_READY)
	$(BIN)/python -m tests.campaigns.fuzzing.inputs $(ARGS)
	$(BIN)/python -m tests.campaigns.fuzzing.inputs --tables --inputs 20000 $(ARGS)

fuzz-guided: $(TEST_READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -m tests.campaigns.fuzzing.guided $(ARGS)

bombs: $(TEST_READY)
	$(BIN)/python -m tests.campaigns.fuzzing.bombs $(ARGS)

fuzz-models: $(TEST_READY)
	$(BIN)/python -m tests.campaigns.fuzzing.model_directories $(ARGS)
	$(BIN)/python -m tests.campaigns.fuzzing.model_directories --structures $(ARGS)

bad-server: $(TEST_READY)
	$(BIN)/python -m tests.campaigns.bad_server $(or $(ARGS),--messages 2000)

corruption: $(TEST_READY)
	$(BIN)/python -m benchmarks.corruption $(ARGS)

# Tools that look at the environment have one of their own, so that they do not look at themselves.
sbom: $(TEST_READY) $(TOOLS)/.installed
	$(BIN)/python packaging/bill_of_materials.py $(TOOLS) build/sbom

hashes: $(TOOLS)/.installed
	$(TOOLS)/bin/python packaging/hashed_requirements.py $(TOOLS)/bin/uv

$(TOOLS)/.installed: packaging/tools.txt | $(BIN)/python
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --requirement packaging/tools.txt
	@touch $@

$(DEMO_READY): $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(TEST_READY): $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@# Whose readers our outputs are held against, without what they would install; where they cannot be had, tests skip.
	-$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --upgrade --target $(VENV)/readers bio-embeddings biotrainer protspace
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Holdfast needs Python 3.11 or later with venv; $(PYTHON) is not. Try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) demo-out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find checkpoint holdfast queue_app gpu_tasks tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
