# `make demo` and `make test` do their own set-up; both work from a fresh clone.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
PYTHON ?= python3
VENV := .venv
NODE := tests/sdk/node
SUITE := target/json-schema-test-suite
# sudo only where it is needed and there.
AS_ROOT := $(shell test "$$(id -u)" = 0 || command -v sudo)

.PHONY: help demo install setup test lint bench crash simulate fuzz
# How long `make fuzz` goes on beginning rounds.
FUZZ_SECONDS ?= 300

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: ## build and start turnout on simulated models
	$(CARGO) run --release --bin turnout -- demo

install: ## build turnout and put it where cargo puts programs
	$(CARGO) install --path gateway --locked

setup: languages $(VENV)/ready $(NODE)/node_modules/ready $(SUITE)/ready ## what the tests need: SDKs, languages of the code runner, the JSON Schema test suite
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install it with rustup, then run make again"; exit 1; }

# Debian and its like keep venv in a package of its own; elsewhere it comes with Python.
$(VENV)/ready: tests/sdk/python/requirements.txt
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || $(MAKE) --no-print-directory packages PACKAGES="python3 python3-venv"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/sdk/python/requirements.txt
	@touch $@

$(NODE)/node_modules/ready: $(NODE)/package-lock.json
	@command -v npm >/dev/null || $(MAKE) --no-print-directory packages PACKAGES="nodejs npm"
	npm ci --prefix $(NODE) --no-fund --no-audit --loglevel=error
	@touch $@

# The suite travels inside a Python package; its hash stands in the requirements.
$(SUITE)/ready: validators/tests/json-schema-test-suite.txt $(VENV)/ready
	@mkdir -p target/suite $(SUITE)
	$(VENV)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --require-hashes -r $< --dest target/suite
	tar xzf target/suite/jsonschema-*.tar.gz -C $(SUITE) --strip-components=2 --wildcards '*/json/tests/*' '*/json/LICENSE'
	@touch $@

# What the tests of the code runner need, looked for where the runner looks: beside it nothing of a home folder is seen.
.PHONY: languages
languages: export PATH := /usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
languages:
	@missing=""; \
	command -v unshare >/dev/null || missing="$$missing util-linux"; \
	command -v cc >/dev/null || missing="$$missing gcc libc6-dev"; \
	command -v node >/dev/null || missing="$$missing nodejs"; \
	command -v go >/dev/null || missing="$$missing golang-go"; \
	command -v javac >/dev/null || missing="$$missing default-jdk-headless"; \
	python3 -c 'import pytest' 2>/dev/null || missing="$$missing python3 python3-pytest"; \
	test -z "$$missing" || $(MAKE) --no-print-directory packages PACKAGES="$$missing"

.PHONY: packages
packages:
	@command -v apt-get >/dev/null || { echo "please install: $(PACKAGES)"; exit 1; }
	$(AS_ROOT) apt-get update -qq
	DEBIAN_FRONTEND=noninteractive $(AS_ROOT) apt-get install -y -qq --no-install-recommends $(PACKAGES)

lint: ## format, clippy, documentation links, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check licenses bans sources; \
	else echo "cargo deny is not installed: tests/tests/house.rs checks licences, bans and sources"; fi

test: setup lint ## everything: set-up, lint, all tests, a quick bench
	$(CARGO) test --workspace --doc --locked --quiet
	$(CARGO) run --bin bench --locked --quiet -- all --quick
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --workspace --locked --no-fail-fast; \
	else \
	  $(CARGO) test --workspace --all-targets --locked --no-fail-fast; \
	fi

bench: ## CPU, latency and time to first token as ratios to the floors
	$(CARGO) run --release --bin bench --locked -- all

crash: ## two hundred kills under load
	CRASH_ROUNDS=200 $(CARGO) test -p tests --test it crash -- --nocapture

# SEED=n is the first one; a seed that goes wrong says how to see it again.
SEEDS ?= 1000
simulate: ## the engine under seeded traffic, faults and kills; SEEDS=1000 says how many seeds
	SEEDS=$(SEEDS) $(CARGO) test -p engine --test simulate --locked -- --nocapture

# `make test` tries the same texts every time; here each round has a seed of its own, and FUZZ_SEED shows one again.
fuzz: ## new texts for all that is read from outside, for FUZZ_SECONDS (300)
	@seed="$${FUZZ_SEED:-$$(date +%s)}"; end="$$(($$(date +%s) + $(FUZZ_SECONDS)))"; \
	while true; do \
	  echo "FUZZ_SEED=$$seed"; \
	  export LOADER_FUZZ_SEED="$$seed" EXPRESSION_FUZZ_SEED="$$seed" PREFIX_FUZZ_SEED="$$seed"; \
	  export BODY_FUZZ_SEED="$$seed" STREAM_FUZZ_SEED="$$seed" SPOOL_FUZZ_SEED="$$seed" AUDIT_FUZZ_SEED="$$seed"; \
	  $(CARGO) test --locked --quiet -p workflows --lib load::fuzz; \
	  $(CARGO) test --locked --quiet -p engine --test expression_fuzz; \
	  $(CARGO) test --locked --quiet -p validators --test prefix_fuzz; \
	  $(CARGO) test --locked --quiet -p types --test body_fuzz; \
	  $(CARGO) test --locked --quiet -p providers --lib dialect::fuzz; \
	  $(CARGO) test --locked --quiet -p stores --lib spool::fuzz; \
	  $(CARGO) test --locked --quiet -p gateway --lib control::audit::tests; \
	  seed="$$((seed + 1))"; \
	  test "$$(date +%s)" -lt "$$end" || break; \
	done
