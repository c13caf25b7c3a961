.PHONY: test interop ci release

test: # the module's own tests
	go test ./...

interop: # against real btcd, neutrino and lnd, which are built the first time
	cd interop && go test -timeout 20m ./...

ci: # everything that must pass before a change goes in
	.ci/run

release: # what users install, for all kinds of computers, into dist
	go run ./cmd/release
