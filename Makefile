# Fairlead: `make` prints what can be made.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= dev
LDFLAGS := -s -w -X main.version=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
LAB     := go run ./e2e/lab

# Linters and generators are programs of modules of their own, so that what they need never mixes with what we ship.
LINT           := go tool -modfile=.tools/lint/go.mod golangci-lint
CONTROLLER_GEN := go tool -modfile=.tools/go.mod controller-gen

.PHONY: help
help: ## Print the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the controller and the speaker into bin/
	$(GOBUILD) -o bin/ ./controller ./speaker

.PHONY: lab
lab: ## Make a real Kubernetes cluster on this machine, install Fairlead and fetch a page through an address
	@$(LAB) demo

.PHONY: lab-down
lab-down: ## Remove the lab
	@$(LAB) down

.PHONY: test
test: tools ## Run every test: unit, real kernel, and end to end on the lab (needs root)
	go test -timeout=30m ./...

.PHONY: test-unit
test-unit: ## Run the tests that need neither root nor a cluster (under a minute)
	go test -short ./...

.PHONY: test-kills
test-kills: tools ## Kill the controller 20 times while 5,000 Services of the lab get their addresses (needs root; half an hour)
	go test ./e2e -run TestKilled -kill-services 5000 -kills 20 -timeout 90m -v

.PHONY: bench-allocation
bench-allocation: tools ## Measure how fast 5,000 Services of the lab get addresses, beside a bare client (needs root; half an hour)
	go test ./e2e -run '^$$' -bench Allocation -benchtime 1x -services 5000 -timeout 90m

.PHONY: test-routers
test-routers: tools ## Run the BGP and BFD rooms against real FRR and BIRD (needs root)
	go test -tags interop ./speaker/bgp ./speaker/bfd

# How many Services, and how often, make bench measures; see docs/performance.md.
SIZES ?= 100,1000,10000,30000
RUNS  ?= 3

.PHONY: bench
bench: build ## Measure the speaker beside kube-proxy and write docs/performance.md (needs root; two hours)
	@$(LAB) build
	go run ./e2e/bench -sizes $(SIZES) -runs $(RUNS) -page docs/performance.md compare

.PHONY: churn
churn: build ## Ten minutes of changes and kills under traffic: no connection may fail (needs root)
	@$(LAB) build
	go run ./e2e/bench churn

.PHONY: conformance
conformance: ## Run Kubernetes' own networking suite against Fairlead on the lab (needs root, takes half an hour)
	@$(LAB) conformance

.PHONY: conformance-sample
conformance-sample: ## Run a few specs of that suite (two minutes once it is built)
	@$(LAB) conformance --sample

.PHONY: test-failover
test-failover: ## Run the end-to-end tests of Layer 2 at full length and held to their times, on a quiet machine (needs root)
	go test ./e2e -run 'Partition|Flapping|Restart|Outage|Spread|Planned|Moves|Conflict|Split|Pings|Clock' -v -timeout 60m -long -crowd 300 -moves 10

.PHONY: tools
tools:
	@$(LAB) packages
	@$(LAB) build

.PHONY: lint
lint: ## Check style and the rules between the rooms
	$(LINT) run ./...

.PHONY: generate
generate: ## Generate deep copies, CRDs and RBAC from the types and markers
	$(CONTROLLER_GEN) object paths=./api/...
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd
	$(CONTROLLER_GEN) rbac:roleName=fairlead-controller,fileName=controller_role.yaml paths=./controller/... output:rbac:dir=config/rbac
	$(CONTROLLER_GEN) rbac:roleName=fairlead-speaker,fileName=speaker_role.yaml paths=./speaker/... output:rbac:dir=config/rbac
	rm -rf charts/fairlead/crds && mkdir -p charts/fairlead/crds && cp config/crd/*.yaml charts/fairlead/crds/

.PHONY: verify
verify: generate ## Check that generated files are fresh, go.mod is tidy and the code is formatted
	go mod tidy -diff
	go vet ./...
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	@test -z "$$(git status --porcelain)" || { git status --short; git diff | head -50; echo 'verify: the files above changed: commit what `make generate` made'; exit 1; }

.PHONY: images
images: build ## Build the two images as .tar files in bin/ (no container engine needed)
	$(LAB) image --out bin/controller.tar --name fairlead.dev/controller:$(VERSION) --binary bin/controller --entrypoint /controller
	$(LAB) image --out bin/speaker.tar --name fairlead.dev/speaker:$(VERSION) --binary bin/speaker --entrypoint /speaker

.PHONY: clean
clean: lab-down ## Remove the lab and what was built
	rm -rf bin
