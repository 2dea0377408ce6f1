# Two targets matter to a newcomer: make demo, make test.

CACHE       := $(CURDIR)/.cache
# The tag of this commit, or else the last version of the changelog with the commit.
RELEASE     := $(shell sed -n 's/^\#\# \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -1)
COMMIT      := $(shell git describe --always --dirty --exclude='*' 2>/dev/null)
VERSION     ?= $(or $(shell git describe --tags --exact-match --dirty 2>/dev/null),v$(RELEASE)$(COMMIT:%=+%))
LDFLAGS     := -s -w -X main.version=$(VERSION)
# The tools have a module of their own: in go.mod they would raise the versions of
# what Towline itself is built from, and add 500 lines to go.sum.
TOOLS       := -modfile=$(CURDIR)/.ci/tools/go.mod
LINTERS     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint github.com/getkin/kin-openapi/cmd/validate
# What runs in containers, and the tools, so that they share what they are built from.
STATIC      := CGO_ENABLED=0 go build -trimpath
# No target wants what debuggers read, which is a fifth of the work of the compiler. Stacks
# and reports of races are whole without it. A quarter of the rest collects the compiler's
# own garbage, so it may leave more: 1.1 GB at most instead of 0.8. With 400 it would be
# 1.5 GB, and little faster. The programs that are built run as ever.
LEAN        := -gcflags=all=-dwarf=false '-toolexec=env GOGC=200'
LEAN_FLAGS  := $(strip $(filter-out $(LEAN),$(shell go env GOFLAGS)) $(LEAN))
SOURCES     := cmd api configs puller stream integration
FUZZTIME    ?= 30s
COUNT       ?= 20
KILLS       ?= 300

.PHONY: help build test beside-unit beside-lint test-fast lint unit integration soak demo image man dist dist-test bench bench-pull bench-fleet fuzz check clean

build test test-fast unit lint integration soak demo image: export GOFLAGS = $(LEAN_FLAGS)
# A program with -race sleeps a second before it exits, if nothing else is said. The tests
# start hundreds.
test unit integration soak: export GORACE := atexit_sleep_ms=20 $(GORACE)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## the binary, as bin/towline: static
	$(STATIC) -ldflags '$(LDFLAGS)' -o bin/towline ./cmd/towline

# The tests on engines mostly wait for them, so the unit tests run beside them, and the
# linters where both wait. What all are built from is built first, and once; some tests
# want the static build.
test: $(CACHE) ## all tests, and lint; REQUIRE_ENGINE=1 fails where there is no engine
	go build -race ./...
	@$(MAKE) --no-print-directory -k -j3 integration beside-unit beside-lint

beside-unit:
	@nice -n 10 $(MAKE) --no-print-directory unit

beside-lint:
	$(STATIC) -o /dev/null ./cmd/towline
	@nice -n 19 $(MAKE) --no-print-directory lint

test-fast: ## the tests that need no engine, without the race detector
	go test -short ./...

# With -race, the linters read what the tests have built, and nothing is built twice.
lint: export LINT_FLAGS = $(LEAN_FLAGS) -race
lint: $(CACHE) ## gofmt, the API's contract, and golangci-lint: vet, staticcheck, unused code, and which package imports which
	@test -z "$$(gofmt -l $(SOURCES))" || { gofmt -d $(SOURCES); exit 1; }
	$(STATIC) $(TOOLS) -o $(CACHE)/ $(LINTERS)
	$(CACHE)/validate -- api/contract/openapi.yaml
	GOFLAGS="$$LINT_FLAGS" $(CACHE)/golangci-lint run ./...
	cd integration && GOFLAGS="$$LINT_FLAGS" $(CACHE)/golangci-lint run ./...
	.ci/depguard_test.sh $(CACHE)/golangci-lint

# golangci-lint does the work of vet.
unit:
	go test -race -vet=off -timeout 25m ./...

# Not cached: what it tests is not only in files. Two packages at a time: each
# has an engine of its own, and mostly waits for it.
integration:
	cd integration && go test -race -vet=off -count=1 -p 2 -timeout 25m ./...

soak: ## the fault suite COUNT times, and KILLS kills under load: what fails once in a while shows up
	cd integration && go test -race -count=$(COUNT) -timeout $$(($(COUNT) * 3 + 5))m ./faults
	cd integration && go test -race -count=1 -v -timeout $$(($(KILLS) / 6 + 10))m -run LosesNoJob ./faults -kills=$(KILLS)
	go test -race -count=1 -timeout 20m -run RandomTrial ./puller/keep/collect -trials=20
	go test -race -count=1 -timeout 40m -run 'DamageAtTheStart|Kill' ./puller/bolt -damages=2000 -kills=40
	go test -count=1 -v -timeout 20m -run 'Trial|Kill' ./puller/fleet/peers -peers.large
	cd integration && go test -count=1 -timeout 40m -v -run TestKeepTrial ./keep -keeprounds=200
	cd integration && go test -race -count=1 -timeout 15m ./fleet -hosts=8 -nats
	cd integration && go test -count=1 -timeout 15m -run TestRun . -instant=200 -runkills=60 -printed=128 -spoken=200

demo: ## pull an image from a local registry through towline, and watch it
	cd integration && go run ./demo -cache '$(CACHE)'

image: ## the container image towline:dev (IMAGE names another)
	mkdir -p $(CACHE)/image/own/run/towline $(CACHE)/image/own/var/lib/towline
	GOOS=linux $(STATIC) -ldflags '$(LDFLAGS)' -o $(CACHE)/image/towline ./cmd/towline
	docker build -q -t $(or $(IMAGE),towline:dev) -f Dockerfile $(CACHE)/image

man: ## the man pages, in man/
	mkdir -p man && go run -tags man ./cmd/towline man man

dist: ## what is released, in dist/: binaries, archives, packages, SBOMs and checksums
	VERSION='$(VERSION)' .ci/dist.sh dist

dist-test: ## build what is released, twice; install, upgrade and remove the deb package in a directory
	cd integration && go test -count=1 -v -timeout 20m -tags dist ./dist

bench: ## figures against docker pull, docker run, the disk and other ways to tell readers, as ratios in one run
	cd integration && go run ./bench

bench-pull: ## pulls over links of several kinds, against docker pull; ARGS="-scenario far -runs 1" is one of them
	cd integration && go run ./bench/pull $(ARGS)

bench-fleet: ## eight hosts that share an image, against eight that pull by themselves; ARGS="-kill" kills one of them
	cd integration && go run ./bench/fleet $(ARGS)

fuzz: ## every fuzz target for FUZZTIME
	@set -e; for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	  done; \
	done

# Not part of test: what it says changes without a change here. Its database is
# not reached from everywhere; GOVULNDB names another.
check: ## known faults in what is built in, where their database can be reached
	@for dir in . integration; do \
	  out=$$(cd $$dir && go tool $(TOOLS) govulncheck ./... 2>&1) && { echo "$$out"; continue; }; \
	  echo "$$out"; \
	  if echo "$$out" | grep -q 'fetching vulnerabilities'; then \
	    echo "check: NOTHING WAS CHECKED: the database of known faults can't be reached from here"; exit 0; \
	  fi; \
	  exit 1; \
	done

$(CACHE):
	mkdir -p $@

clean: ## what the other targets left
	rm -rf bin dist man $(CACHE)
