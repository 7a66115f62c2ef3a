# Everything a contributor runs. Only Go is needed; with a C compiler the tests
# also look for data races.

BUF      := go run github.com/bufbuild/buf/cmd/buf@v1.75.0
GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# What the race detector does not look into: SQLite, which is C made into Go and keeps
# its memory outside of Go's; the arithmetic of the curves that go-plugin's certificates
# are on, and bcrypt's; and goja, whose runtimes are each of one goroutine at a time, by
# code that it does look into. It is others' code that starts no goroutine; watched, it
# took three of five seconds in the tests of core/app, and a script's limit had to be six
# times as long. To look into it all the same: make test UNWATCHED=
UNWATCHED := github.com/dop251/goja/... modernc.org/sqlite/lib modernc.org/libc modernc.org/memory crypto/internal/fips140/nistec/... golang.org/x/crypto/blowfish

# -race needs cgo, and that a C compiler.
RACE := $(shell command -v $$(go env CC) >/dev/null 2>&1 && [ "$$(go env CGO_ENABLED)" = 1 ] && \
	echo -race $(UNWATCHED:%=-gcflags=%=-race=false))

# A race in a child process ends it, which its test notices; and no child waits
# a second at its end for reports that never come.
export GORACE := halt_on_error=1 atexit_sleep_ms=0

# Modules of their own, which ./... does not reach.
EXAMPLES := $(patsubst %/go.mod,%,$(wildcard examples/*/go.mod))

.PHONY: demo build test lint generate fuzz torture tamper bench clean

demo: ## see it work, without any set-up
	go run ./cmd/hookline demo

build: ## bin/hookline
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/hookline ./cmd/hookline

PROCESSORS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

# Most tests wait for something, so more packages run at once than there are processors,
# those that take longest first. These measure deadlines, and get more room: what heeds a
# deadline is in time at one try of several, also with others beside it.
TIMED := ./core/app ./plugins/sql ./plugins/conformance ./transforms ./plugins/amqp ./plugins/smtp ./plugins/mqtt ./plugins/mllp ./plugins/file ./plugins/nats ./plugins/http ./plugins/host ./core/ingest
LONGEST := ./core/app/torture ./core/journal ./cmd/bench ./cmd/hookline

test: ## all tests
ifeq ($(RACE),)
	@echo '!!! No C compiler: the tests run WITHOUT the race detector. Install gcc or clang to have it.'
endif
	go test $(RACE) -p $$((2 * $(PROCESSORS))) -parallel 8 -timeout 10m $(TESTFLAGS) $(LONGEST) $$(go list ./... | grep -vxF "$$(go list $(TIMED))")
	@$(MAKE) --no-print-directory -j2 test-timed test-examples

.PHONY: test-timed test-examples
test-timed:
	go test $(RACE) -p $$(($(PROCESSORS) + 1)) -timeout 10m $(TESTFLAGS) $(TIMED)

test-examples:
	@set -e; for m in $(EXAMPLES); do echo "cd $$m && go test ./..."; (cd $$m && go vet ./... && go test $(RACE) $(TESTFLAGS) ./...); done

# v1.binpb is the plugin contract as it was frozen: what vendors have built on.
lint: ## gofmt, vet on all systems, golangci-lint, proto lint
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change: $$out"; exit 1; fi
	go vet ./...
	GOOS=windows go vet ./...
	GOOS=darwin go vet ./...
	$(GOLANGCI) run ./...
	$(BUF) lint
	$(BUF) breaking --path plugins/transportpb --against plugins/transportpb/v1.binpb

generate: ## the code that is made from .proto files
	$(BUF) generate

fuzz: ## what strangers send, a minute each
	go test ./core -run '^$$' -fuzz FuzzParseEvent -fuzztime 1m
	go test ./transforms -run '^$$' -fuzz FuzzDecode -fuzztime 1m
	go test ./core/config -run '^$$' -fuzz FuzzParse -fuzztime 1m
	go test ./core/ingest -run '^$$' -fuzz FuzzRequest -fuzztime 1m
	go test ./core/ingest -run '^$$' -fuzz FuzzBasic -fuzztime 1m
	go test ./core/http1 -run '^$$' -fuzz FuzzSame -fuzztime 1m
	go test ./core/http1 -run '^$$' -fuzz FuzzUsual -fuzztime 1m
	go test ./plugins/http -run '^$$' -fuzz FuzzPath -fuzztime 1m
	go test ./plugins/mllp -run '^$$' -fuzz FuzzAck -fuzztime 1m
	go test ./core/trialkit -run '^$$' -fuzz FuzzPath -fuzztime 1m
	go test ./transforms -run '^$$' -fuzz FuzzDate -fuzztime 1m
	go test ./transforms -run '^$$' -fuzz FuzzTable -fuzztime 1m
	go test ./plugins/sql -run '^$$' -fuzz FuzzStatement -fuzztime 1m
	go test ./plugins/sql -run '^$$' -fuzz FuzzPointer -fuzztime 1m
	go test ./plugins/mqtt -run '^$$' -fuzz FuzzConnack -fuzztime 1m

# HOOKLINE_TORTURE is for how long, HOOKLINE_TORTURE_SEED repeats a run's choices.
torture: ## kill daemons, children and connections under load, for an hour
	HOOKLINE_TORTURE=$${HOOKLINE_TORTURE:-1h} go test $(RACE) -count=1 -v -timeout 0 ./core/app/torture

# Of as many events as the audit's promise is about. HOOKLINE_TAMPER_SEED repeats a
# run's choices. Without -race: it has a limit on time.
tamper: ## alter a journal of 100,000 events in every way; verify must name each, in 10 s
	HOOKLINE_TAMPER_EVENTS=$${HOOKLINE_TAMPER_EVENTS:-100000} go test -count=1 -v -timeout 30m -run '^TestVerifyAllTampers$$' ./core/journal

bench: ## Hookline beside a direct call and Go's ReverseProxy
	go run ./cmd/bench

clean:
	rm -rf bin
