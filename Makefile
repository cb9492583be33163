# The commands people type. Each is a few lines; what takes more is a script in scripts/, which can be run by itself too.
# One target after the other, whatever -j says: two would wait for each other's locks, and the output would mingle.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test conformance chaos fuzz bench lint fmt clean

# Where cargo puts what it builds. Quoted where it is used: a path may have spaces.
target := $(or $(CARGO_TARGET_DIR),target)
# Further arguments for `run` (those of `mcpmeter serve`) and `bench` (those of `mcpmeter-bench`).
ARGS ?=
# How long the storm of `chaos` lasts.
SECONDS_OF_CHAOS ?= 300

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

run: ## Build mcpmeter and run it in front of the official MCP demo server, until Ctrl-C
	@scripts/run $(ARGS)

test: ## Install what the tests need, then run everything: lint, all tests, and a short bench that checks rows, not speed
	@scripts/setup-tests
	@scripts/setup-bench
	@$(MAKE) --no-print-directory lint
	cargo test --workspace --locked --no-fail-fast | scripts/count-tests
	"$(target)/debug/mcpmeter-bench" --check --rounds 1 --seconds 0.2

conformance: ## Run the official conformance suite with and without mcpmeter in between: every verdict has to be the same
	@scripts/setup-tests npm python
	cargo test -p mcpmeter --test conformance --locked -- --nocapture

chaos: ## Break PostgreSQL, network, disk, clock and program under traffic for ten minutes: no call may get lost in silence
	@scripts/setup-tests postgres
	MCPMETER_CHAOS_SECONDS=$(SECONDS_OF_CHAOS) cargo test -p mcpmeter --test chaos --locked -- --nocapture

fuzz: ## Feed the observer noise, ten seconds per target; SECONDS=600 for longer
	@SECONDS=$(or $(SECONDS),10) scripts/fuzz

bench: ## Measure mcpmeter beside nginx, haproxy, Envoy and no proxy, and by itself: 35 minutes; ARGS=--quick takes 18
	@scripts/setup-bench all
	cargo build --release --locked -p mcpmeter -p mcpmeter-benches
	@"$(target)/release/mcpmeter-bench" $(ARGS)
	@"$(target)/release/mcpmeter-bench" memory
	@"$(target)/release/mcpmeter-bench" growth
	@"$(target)/release/mcpmeter-bench" journal
	@"$(target)/release/mcpmeter-bench" instructions

lint: ## Check format, lints, documentation, house rules, dependencies and licences, scripts and container files
	@scripts/setup-tests lint
	cargo fmt --all --check
	@scripts/check-house
	@scripts/check-dependencies
	@scripts/check-deployment
	.peers/lint/bin/shellcheck --exclude=SC2329 $$(grep -l '^#!/usr/bin/env bash' .ci/run scripts/*) # traps do call functions
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked

fmt: ## Format the Rust code
	cargo fmt --all

clean: ## Remove what was built and what was installed into this folder; calls that `make run` recorded stay
	cargo clean
	rm -rf .peers proxy/tests/peers/node_modules
