# Everything works on a fresh Linux machine with Python 3.11+ (with venv) and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
FEDBROKER_CACHE ?= $(HOME)/.cache/fedbroker
ENGINES ?= $(patsubst tests/engines/%/build.sh,%,$(wildcard tests/engines/*/build.sh))

.PHONY: demo demo-sharing install dev test lint simulate kills bench engines test-engines demo-engines stubs clean

demo: $(VENV)/.installed  ## a federation of five sites on this machine: jobs, kills, and a check of every result
	$(BIN)/python -m broker.demo

demo-sharing: $(VENV)/.installed  ## fair shares, quotas that are lent and given back, best effort that gives way, deadlines: each checked
	$(BIN)/python -m broker.demo sharing

install: $(VENV)/.installed
dev: $(VENV)/.dev

$(VENV)/.installed: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	touch $@

$(VENV)/.dev: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[dev]"
	touch $(VENV)/.installed $@

test: $(VENV)/.dev lint  ## lint, types and all tests but those on real engines; what needs a tool that is missing is skipped and says so
	$(BIN)/python -m pytest -m "not engines" --numprocesses 2 --dist loadscope

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

engines:  ## the real engines that tests need (or ENGINES="etcd slurm"), built once into $(FEDBROKER_CACHE)
	for engine in $(ENGINES); do FEDBROKER_CACHE=$(FEDBROKER_CACHE) sh tests/engines/$$engine/build.sh || exit 1; done

# Engines have deadlines of their own, which a busy machine misses now and then: what failed is run once more, alone.
test-engines: $(VENV)/.dev  ## the contract and the faults, on every real engine of this machine, two engines at a time
	$(BIN)/python -m pytest -m engines --numprocesses 2 --dist loadscope || \
	{ test $$? = 1 && PYTEST_ADDOPTS= $(BIN)/python -m pytest -m engines --last-failed --last-failed-no-failures none; }

demo-engines: $(VENV)/.dev  ## 400 jobs over a federation of real engines, each checked
	$(BIN)/python -m tests.engines.mixed

simulate: $(VENV)/.dev  ## the seeded simulation at length: 20,000 seeds
	$(BIN)/python -m tests.faults.run --seeds 0:20000 --jobs 2

bench: $(VENV)/.dev  ## jobs/s from accepted to finished, CPU per job, latency of one job
	$(BIN)/python -m tests.bench.throughput

stubs: $(VENV)/.dev  ## the etcd stubs, anew from broker/store/etcd/rpc.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. broker/store/etcd/rpc.proto

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
