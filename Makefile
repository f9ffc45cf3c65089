# Everything is a target here; `make help` lists them. Demo, tests and `make run` share one release build in .build, so
# that a fresh clone compiles each file once. What is installed and measured is built apart, in .build-static, with the
# Swift libraries linked in: the toolchain has no static Swift Testing, so the two cannot be one.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

PREFIX ?= /usr/local
INPUT ?=
RECORDS ?= 500
# Minutes for each nemesis of `make chaos`, and which; all without names.
MINUTES ?= 5
NEMESES ?=
KILLS ?= 100
TRANSFERS ?= 100
# What `make sim` runs.
SEEDS ?= 1..1000
SIM_MINUTES ?= 60
# Events in a second that a core must do at least.
SIM_GATE ?= 100000
# Seconds for each of the fuzzers of `make fuzz`.
FUZZ_SECONDS ?= 600

# Where `make bench` puts its results, and which workloads it runs, ours and those that peers run too.
OUT ?= bench-results
BENCH ?= produce-1kb-16-partitions produce-100b-16-partitions one-at-a-time-1kb end-to-end-16-partitions killed-leader
PEER_BENCH ?= produce-1kb-16-partitions one-at-a-time-1kb
workloads = $(patsubst %,bench/workloads/%.toml,$(1))

# Tests reach into modules (@testable), which a release build allows only when asked.
SWIFT_FLAGS := -c release -Xswiftc -enable-testing
# Accesses that overlap end the process in every build that is tested and simulated. What is shipped does not look for them
# (it does check bounds): that was 31 % of the instructions of a replicated record.
STATIC_FLAGS := -c release --static-swift-stdlib --scratch-path .build-static -Xswiftc -enforce-exclusivity=unchecked
FLOTILLA := .build/release/flotilla
STATIC_FLOTILLA := .build-static/release/flotilla
PYTHON := .venv/full/bin/python
CLIENTS := PYTHONPATH=Tests/Clients $(PYTHON) -m clients --binary $(FLOTILLA)
CHAOS := PYTHONPATH=Tests/Clients:Tests/Chaos PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m chaos
FORMATTED := $(wildcard Sources Tests bench Tools Fuzz Package.swift)

.PHONY: help deps deps-build build static demo demo-single run test unit-test clients-test soak chaos chaos-short chaos-tools failover transfers bench bench-quick micro-bench instructions figures figures-cluster group-figures sim sim-short mutants fuzz fuzz-short format format-check generate \
	install uninstall clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

deps: ## install the Debian packages that are missing, and nothing else
	@scripts/deps all

deps-build:
	@scripts/deps build

build: deps-build ## the release binary, .build/release/flotilla
	swift build $(SWIFT_FLAGS) --product flotilla

demo: build ## three brokers: publish, kill the leader, damage a replica, compare; INPUT=FILE chooses what is published
	scripts/demo-cluster --binary $(FLOTILLA) $(if $(INPUT),--input "$(INPUT)")

demo-single: build ## the same with one broker: publish, kill -9, restart, consume, compare
	scripts/demo --binary $(FLOTILLA) $(if $(INPUT),--input "$(INPUT)")

static: deps-build ## the binary as it is shipped, .build-static/release/flotilla
	swift build $(STATIC_FLAGS) --product flotilla

run: build ## a broker with its data in ./flotilla-data
	$(FLOTILLA) serve

test: deps unit-test clients-test sim-short chaos-short fuzz-short instructions ## what CI runs: unit tests, real clients, simulation, chaos and fuzzing in their short forms, and instructions counted

unit-test: deps-build
	swift build $(SWIFT_FLAGS) --build-tests
	swift test $(SWIFT_FLAGS) --skip-build

clients-test: deps
	swift build $(SWIFT_FLAGS) --product flotilla
	@scripts/venv
	$(CLIENTS) --records $(RECORDS)

soak: deps ## the long forms: all seeds, 10,000 records for each client, ten kills in a minute, groups for a quarter of an hour
	swift build $(SWIFT_FLAGS) --build-tests
	FLOTILLA_RAFT_SEEDS=2000 FLOTILLA_REPLICA_SEEDS=200 swift test $(SWIFT_FLAGS) --skip-build
	@scripts/venv
	$(CLIENTS) --records 10000 --long

chaos: chaos-tools ## kills, pauses, partitions, full and failing disks, power cuts; MINUTES each, NEMESES=a,b chooses
	$(CHAOS) --self-test
	$(CHAOS) --binary $(FLOTILLA) --minutes $(MINUTES) $(if $(NEMESES),--only $(NEMESES))

chaos-short: chaos-tools ## seven of them in about three minutes
	$(CHAOS) --self-test
	$(CHAOS) --binary $(FLOTILLA) --short $(if $(NEMESES),--only $(NEMESES))

failover: chaos-tools ## from SIGKILL of a leader to the next acknowledgement, KILLS times
	$(CHAOS).failover --binary $(FLOTILLA) --kills $(KILLS)

transfers: chaos-tools ## the longest time without an acknowledgement while leadership is given away, TRANSFERS times
	$(CHAOS).transfers --binary $(FLOTILLA) --transfers $(TRANSFERS)

chaos-tools: build
	@scripts/deps chaos
	@scripts/venv

bench: static ## ten minutes: workloads on three brokers, then peers with the same work; a table, and a report in OUT
	$(STATIC_FLOTILLA) bench run $(call workloads,$(BENCH)) --start 3 --runs 3 --out $(OUT)
	bench/peers/run --out $(OUT) $(call workloads,$(PEER_BENCH))
	$(STATIC_FLOTILLA) bench report $(OUT)

bench-quick: static ## a minute of it, without peers
	$(STATIC_FLOTILLA) bench run $(call workloads,$(filter-out killed-leader,$(BENCH))) --start 3 --duration 4s --warmup 1s --out $(OUT)

micro-bench: deps-build ## the hot pieces one by one
	FLOTILLA_BENCH=1 swift package --scratch-path .build-bench benchmark

instructions: build ## counts what a record costs, and fails above bench/baseline.json by 5 %
	@scripts/deps instructions
	bench/instructions --binary $(FLOTILLA)

figures: static ## docs/PERFORMANCE.md measured anew: one broker beside the disk's ceiling, five runs of each
	@scripts/deps figures
	bench/figures --binary $(STATIC_FLOTILLA)

figures-cluster: static ## the same of three brokers on this machine: throughput, latencies, thousands of partitions
	bench/figures-cluster --binary $(STATIC_FLOTILLA)

group-figures: static ## the same of consumer groups: thousands of groups and of members, a coordinator's death, commits; ONLY=scale,members,commits
	@scripts/venv
	$(PYTHON) bench/figures-groups --binary $(STATIC_FLOTILLA) $(if $(ONLY),--only $(ONLY))

sim: build ## whole clusters under virtual time, with faults: SEEDS=1..1000, at most SIM_MINUTES, a process for each of two cores
	scripts/sim-halves $(FLOTILLA) $(SEEDS) --minutes $(SIM_MINUTES) --gate $(SIM_GATE)

mutants: deps-build ## plants one bug after the other and sees whether the simulator finds it: ONLY=1,2
	scripts/mutants $(if $(ONLY),--only $(ONLY))

sim-short: build ## sixty seeds of it, ten without the fault atlas, and two in two processes: at most two minutes
	$(FLOTILLA) sim --seeds 1..60 --minutes 1.3
	$(FLOTILLA) sim --seeds 1..10 --no-atlas --minutes 0.4
	one=$$($(FLOTILLA) sim --seeds 1..2 | tail -1); two=$$($(FLOTILLA) sim --seeds 1..2 | tail -1); \
	[[ "$$one" == digest* && "$$one" == "$$two" ]] || { echo "two processes differ: $$one, $$two"; exit 1; }

fuzz-short: deps-build ## twenty seconds of each of them
	scripts/fuzz run 20

fuzz: deps-build ## libFuzzer on the request decoder, the batch parser, the frame reader and the frames between brokers
	scripts/fuzz run $(FUZZ_SECONDS)

format: ## rewrite the sources in the house's format
	swift format format --in-place --recursive --parallel $(FORMATTED)

format-check: ## what CI asks of the format, and of the generated files
	Tools/generate-kafka-wire.py --check
	swift format lint --strict --recursive --parallel $(FORMATTED)

generate: ## write Sources/KafkaWire/Generated anew from Sources/KafkaWire/Schema
	Tools/generate-kafka-wire.py

install: static ## copy the stripped binary to PREFIX/bin and the sample configuration to PREFIX/share/flotilla
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/flotilla"
	install -s -m 755 $(STATIC_FLOTILLA) "$(DESTDIR)$(PREFIX)/bin/flotilla"
	install -m 644 config/flotilla.toml "$(DESTDIR)$(PREFIX)/share/flotilla/flotilla.toml"

uninstall: ## undo install
	rm -f "$(DESTDIR)$(PREFIX)/bin/flotilla" "$(DESTDIR)$(PREFIX)/share/flotilla/flotilla.toml"

clean: ## remove what building and testing left behind
	rm -rf .build .build-* .venv
