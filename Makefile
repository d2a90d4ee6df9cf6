# One command for each thing that is done with this repository; `make help` lists them.
# CARGO_TARGET_DIR is honoured. Test and conformance share the dev profile and so most of a build.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where `make run` keeps its data, and what else the server is given: make run ARGS='--listen …'
DATA ?= bowline-data
ARGS ?=
# How long `make fuzz` spends on each target, and on which: make fuzz FUZZ_TARGETS=stun
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

.PHONY: run
run: ## Build the server quickly and start it on its embedded default, with its data in DATA
	cargo run --profile quick --locked -p bowline-server --bin bowline -- serve --data $(DATA) $(ARGS)

.PHONY: release
release: ## Build the server as it is to be run for long: target/release/bowline
	cargo build --release --locked -p bowline-server --bin bowline

.PHONY: check
check: ## Formatting, lints, documentation, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
	cargo run --quiet --locked -p bowline-xtask -- deny

.PHONY: test
test: ## All tests of the workspace, on SQLite and on a PostgreSQL made for them
	@BOWLINE_SKIPPED=$$(mktemp); export BOWLINE_SKIPPED; status=0; \
	tests/postgres cargo test --workspace --locked || status=$$?; \
	if [ -s "$$BOWLINE_SKIPPED" ]; then \
	  printf '\n%s\n' "Skipped, for what this machine does not have (docs/development.md):"; \
	  sort -u "$$BOWLINE_SKIPPED"; \
	fi; \
	rm -f "$$BOWLINE_SKIPPED"; exit $$status

.PHONY: conformance
conformance: ## Unmodified clients against the server; needs root. make conformance ARGS=test_dns.py
	tests/e2e/run $(ARGS)

.PHONY: bench
bench: ## The API against an empty handler, fleets of simulated nodes, policies of many devices
	@for run in bench/*/run; do echo "--- $$run"; "$$run"; done
	cargo bench --locked -p bowline-policy --bench scale
	cargo bench --locked -p bowline-api --bench limits

.PHONY: fuzz
fuzz: ## Fuzz every parser of outside bytes for FUZZ_SECONDS each; needs cargo-fuzz
	@command -v cargo-fuzz >/dev/null || { \
	  echo 'make fuzz needs cargo-fuzz: cargo install cargo-fuzz --version 0.13.2 --locked' >&2; \
	  exit 1; }
	# RUSTC_BOOTSTRAP: libFuzzer's coverage is a nightly flag of the compiler. What is found goes to
	# build/fuzz; who keeps an input copies it to fuzz/corpus, where ordinary tests run it too.
	export RUSTC_BOOTSTRAP=1; \
	targets='$(FUZZ_TARGETS)'; \
	for target in $${targets:-$$(cargo fuzz list)}; do \
	  echo "--- $$target"; \
	  mkdir -p build/fuzz/$$target; \
	  cargo fuzz run --sanitizer none $$target build/fuzz/$$target fuzz/corpus/$$target \
	    -- -max_total_time=$(FUZZ_SECONDS); \
	done

.PHONY: generate
generate: ## Write again what is generated and committed: docs/settings.md, openapi/api-v2.json, docs/api.md, the access tables
	cargo run --quiet --locked -p bowline-xtask -- settings
	cargo run --quiet --locked -p bowline-xtask -- openapi
	cargo run --quiet --locked -p bowline-xtask -- access
