# Everything a newcomer needs: `make demo`, `make test`. See README.md.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SEED   ?= 7

.PHONY: help demo up test lint bench chaos kafka seeds boards locks clean

help:
	@echo "make demo   set up, then watch a regression being caught, rolled back and verified"
	@echo "make up     the same, and keep the page open"
	@echo "make test   set up, then run all tests"
	@echo "make lint   style, types, import contracts"
	@echo "make bench  what each part costs, as ratios to a calibration loop"
	@echo "make chaos  kill -9 ten times under 20,000 interactions"
	@echo "make kafka  a local broker in the foreground, without containers (Java 17 and Maven)"
	@echo "make seeds  the demonstration on 20 regressed and 40 healthy seeds"

$(VENV)/.run: requirements/run.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("plumbline needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/run.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.run
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	touch $@

demo: $(VENV)/.run
	$(BIN)/plumbline demo --seed $(SEED)

up: $(VENV)/.run
	$(BIN)/plumbline demo --seed $(SEED) --keep --port 8321

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench.bench_path

chaos: $(VENV)/.dev
	PLUMBLINE_CHAOS_INTERACTIONS=20000 PLUMBLINE_CHAOS_KILLS=10 $(BIN)/python -m pytest tests/chaos -x

kafka: $(VENV)/.run
	$(BIN)/python -m deploy.kafka

seeds: $(VENV)/.dev
	$(BIN)/python -m tests.quality.demo_seeds

boards: $(VENV)/.dev
	$(BIN)/python -m dashboards.build

locks:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml requirements/build.in -o requirements/run.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml requirements/build.in -o requirements/dev.lock

clean:
	rm -rf $(VENV) build dist *.egg-info plumbline-demo plumbline-data
