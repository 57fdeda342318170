# The commands of the project. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help run test soak lint fmt bench proto docs

help: ## lists the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## builds and starts everything on the embedded default, in the foreground
	$(CARGO) build --locked --package paddock
	exec $(TARGET_DIR)/debug/paddock serve

test: ## installs what the tests need and runs every test
	scripts/setup-test
	scripts/test

soak: ## runs the long forms of the tests, and a million requests with two hundred kills
	scripts/soak

lint: ## checks format, clippy, sizes and style, the contract, the dependencies
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	scripts/lint-style
	scripts/lint-proto
	scripts/lint-dependencies

fmt: ## formats the Rust code
	$(CARGO) fmt --all

bench: ## measures the product and comparable programs in one run
	scripts/bench

proto: ## regenerates proto/src/gen after a change of a .proto file
	$(CARGO) run --locked --package codegen

docs: ## regenerates docs/reference after a change of the contract or of a default file
	$(CARGO) build --locked --workspace --bins
	UPDATE_GENERATED=1 $(CARGO) test --locked --package system --test system docs::pages
