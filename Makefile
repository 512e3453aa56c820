# All targets work from a clean clone, on a machine with Python 3.11 or newer and make.
# `make` alone lists them.

# Another interpreter: make PYTHON=/path/to/python3. More for pytest or the bench: make test ARGS="-k wire".
# Tests in one process, as for a debugger: make test JOBS=0.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
ARGS ?=
JOBS ?= 3
BIN := .venv/bin

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint format cover bench batches oneway traffic soak conformance faults fuzz clean rabbitmq clients interop codecs generated cancels torture

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(BIN)/.runtime  ## calls between processes, seen to survive the loss of a worker
	@$(BIN)/amqproxy demo $(ARGS)

# Most tests wait: for processes, brokers and time. Those of a file stay together, for they share what they set up.
test: $(BIN)/.dev rabbitmq clients lint  ## lint, types and all tests, on the embedded broker and on RabbitMQ
	$(BIN)/pytest --numprocesses=$(JOBS) --dist=loadfile $(ARGS)

lint: $(BIN)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/.dev  ## put imports and layout right
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

cover: $(BIN)/.dev  ## whether each pure module is covered by its own tests alone
	$(BIN)/python -m tests.pure_coverage

bench: $(BIN)/.dev rabbitmq  ## calls per second, beside aio-pika, pika and C, and on the embedded broker
	@sh tests/apt-install.sh gcc libc6-dev librabbitmq-dev || true  # without them, it leaves C out
	$(BIN)/python -m tests.bench $(ARGS)

interop: $(BIN)/.dev rabbitmq clients  ## programs in other languages; writes docs/interop.md
	$(BIN)/pytest tests/interop --write-interop $(ARGS)

codecs: $(BIN)/.dev rabbitmq  ## what each encoding takes, alone and in a call
	$(BIN)/python -m tests.bench.codecs $(ARGS)

generated: $(BIN)/.dev  ## Python classes from proto/ and thrift/, and the programs that pages quote
	@sh tests/apt-install.sh protobuf-compiler thrift-compiler
	sh tests/generate_idl.sh
	$(BIN)/python -m tests.pages

# Programs and clients in other languages, for the tests that run them.
clients:
	@sh tests/apt-install.sh protobuf-compiler thrift-compiler || true  # without them, their test is skipped
	@for script in tests/clients/install.sh tests/interop/install/*.sh tests/generate/install.sh; do sh $$script || true; done

streams: $(BIN)/.dev rabbitmq  ## items and bytes per second of streams, and the memory that they take
	$(BIN)/python -m tests.bench.streams $(ARGS)

cancels: $(BIN)/.dev rabbitmq  ## what 10,000 calls leave behind that are cancelled at random moments
	$(BIN)/python -m tests.bench.cancels $(ARGS)

conformance: $(BIN)/.dev rabbitmq  ## the embedded broker against RabbitMQ, at length; writes docs/conformance.md
	$(BIN)/python -m tests.differential --sequences 2000 --write docs/conformance.md $(ARGS)

oneway: $(BIN)/.dev rabbitmq  ## one-way messages per second, beside a publisher in C
	@sh tests/apt-install.sh gcc libc6-dev librabbitmq-dev || true  # without them, it leaves C out
	$(BIN)/python -m tests.bench.oneway $(ARGS)

batches: $(BIN)/.dev rabbitmq  ## calls that share messages, beside the same calls one by one
	$(BIN)/python -m tests.bench.batches $(ARGS)

traffic: $(BIN)/.dev rabbitmq  ## plain messages per second, the embedded broker beside RabbitMQ
	$(BIN)/python -m tests.bench.traffic $(ARGS)

soak: $(BIN)/.dev rabbitmq  ## what a long life leaves behind: of clients and workers, and of the embedded broker
	$(BIN)/python -m tests.faults.churn
	$(BIN)/python -m tests.bench.broker_soak $(ARGS)
	$(BIN)/python -m tests.bench.soak --embedded

faults: $(BIN)/.dev rabbitmq  ## every fault of the list, injected; writes docs/reliability.md
	$(BIN)/pytest -m fault --faults-table $(ARGS)

torture: $(BIN)/.dev rabbitmq  ## random faults, and nothing may be lost: make torture minutes=60 seed=1
	$(BIN)/python -m tests.faults.torture $(if $(minutes),--minutes $(minutes)) $(if $(seed),--seed $(seed)) $(ARGS)

fuzz: $(BIN)/.dev  ## the embedded broker against ten minutes of nonsense
	$(BIN)/python -m tests.fuzz --seconds 600 $(ARGS)

clean:  ## remove all that make made
	rm -rf tests/clients/go/client tests/clients/java/lib tests/clients/node/node_modules tests/generate/java/lib
	rm -rf examples/go/bin examples/java/target examples/node/node_modules examples/scala/target tests/vectors/java/target
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist htmlcov .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A RabbitMQ to test with, and a Redis. When there is none, the tests that need one are skipped, but with CI=true they fail.
rabbitmq:
	@[ -n "$${AMQPROXY_TEST_URL:-}" ] || sh tests/apt-install.sh rabbitmq-server || [ "$${CI:-}" != true ]
	@sh tests/apt-install.sh redis-server || [ "$${CI:-}" != true ]

# The stamps hold what was installed from which pyproject.toml, so that nothing is installed twice.
$(BIN)/.runtime: pyproject.toml | $(BIN)/python
	@echo "amqproxy: installing into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -m compileall -q amqproxy  # pip compiles what it copies; an editable package it does not
	@touch $@

$(BIN)/.dev: pyproject.toml | $(BIN)/python
	@echo "amqproxy: installing into .venv, with what development needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m compileall -q amqproxy
	@touch $(BIN)/.runtime $@

# Debian splits venv off Python: an interpreter that lacks it is the second choice, and is given it.
$(BIN)/python:
	@fits='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))'; \
	for wanted in "import ensurepip; $$fits" "$$fits"; do \
	    for python in $(PYTHON); do \
	        "$$python" -c "$$wanted" 2>/dev/null && break 2; \
	        python=; \
	    done; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "amqproxy: needs Python 3.11 to 3.14; none of $(PYTHON) is that. make PYTHON=/path/to/python3 names another" >&2; \
	    exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip' 2>/dev/null; then \
	    sh tests/apt-install.sh "$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
	fi && \
	echo "amqproxy: making .venv with $$("$$python" --version)" && \
	"$$python" -m venv --clear .venv
