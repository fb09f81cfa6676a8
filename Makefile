# Everything a newcomer needs: `make demo`, `make test`. See README.md.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SEED   ?= 7

.PHONY: help demo up test lint bench bench-detectors bench-kafka soak-kafka store-away chaos chaos-embedded kafka seeds boards locks clean

help:
	@echo "make demo   set up, then watch a regression being caught, rolled back and verified"
	@echo "make up     the same, and keep the page open"
	@echo "make test   set up, then run all tests"
	@echo "make lint   style, types, import contracts"
	@echo "make bench  what each part costs, as ratios to a calibration loop"
	@echo "make chaos  20,000 interactions and 10 kills; on Kafka 500,000 and 64 faults of ten kinds"
	@echo "make store-away   ten minutes without a store while a canary regresses"
	@echo "make bench-detectors  what detectors cost, beside river's PageHinkley"
	@echo "make bench-kafka  what each part costs on Kafka, beside stock Faust and a plain loop"
	@echo "make soak-kafka   half load for 30 minutes: latency and memory"
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

chaos-embedded: $(VENV)/.dev
	PLUMBLINE_CHAOS_INTERACTIONS=20000 PLUMBLINE_CHAOS_KILLS=10 $(BIN)/python -m pytest tests/chaos/test_kill_nine.py -x

chaos: chaos-embedded
	PLUMBLINE_CHAOS_KAFKA_INTERACTIONS=500000 PLUMBLINE_CHAOS_KAFKA_FAULTS=64 PLUMBLINE_CHAOS_KAFKA_AT_LEAST=5 \
	PLUMBLINE_CHAOS_KAFKA_RATE=500 $(BIN)/python -m pytest tests/chaos/test_kafka_chaos.py -x -s

store-away: $(VENV)/.dev
	$(BIN)/python -m tests.chaos.kafka_store_away

bench-detectors: $(VENV)/.dev
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.bench_detectors

bench-kafka: $(VENV)/.dev
	$(BIN)/python -m tests.bench.bench_kafka

soak-kafka: $(VENV)/.dev
	$(BIN)/python -m tests.bench.soak_kafka

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
