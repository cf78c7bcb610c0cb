# Veneer. The two commands to know: make demo, make test. Both install what is missing (Debian; as root or with sudo).
SHELL := /bin/sh
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin
CACHE := $(or $(VENEER_CACHE),$(HOME)/.cache/veneer)
VENEER := bin/veneer
# On a terminal the demo is yours; elsewhere it ends at the login prompt.
RUN_FLAGS ?= $(shell test -t 0 || echo --timeout 300s --expect login:)

.PHONY: build prebuilt demo demo-debian demo-small test bench clean

build: prebuilt ## bin/veneer, with the init and the on-board command of each architecture inside
	go build -trimpath -o $(VENEER) ./cmd/veneer

prebuilt: ## the programs that the command carries
	go run ./initramfs/release

demo: ## a real Debian from a verified base to its login prompt; SMALL=1: a tiny base, in seconds
	.ci/install run
	$(MAKE) --no-print-directory build
	$(MAKE) --no-print-directory $(if $(SMALL),demo-small,demo-debian)

demo-debian:
	examples/debian/tree $(CACHE)/debian-bookworm-amd64.tar
	mkdir -p out
	ln -sfn $(CACHE)/debian-bookworm-amd64.tar out/debian.tar
	test -e out/demo.key || $(VENEER) keygen -o out/demo.key --no-passphrase
	$(VENEER) build -f examples/debian/veneer.toml -o out/debian
	$(VENEER) run out/debian $(RUN_FLAGS)

demo-small:
	mkdir -p out
	test -e out/demo.key || $(VENEER) keygen -o out/demo.key --no-passphrase
	.ci/fetch-kernel amd64 cloud out/kernel-amd64.deb
	go run ./examples/small -o out/small-amd64.tar
	$(VENEER) build -f examples/small/veneer.toml -o out/small
	$(VENEER) run out/small $(if $(RUN_FLAGS),--timeout 120s --expect '[#$$] ')

test: ## every ring: form, pure, real mounts, fuzz, virtual machines
	.ci/install test
	$(MAKE) --no-print-directory build
	.ci/test

bench: ## boots the peers side by side; writes docs/bench
	.ci/install bench
	$(MAKE) --no-print-directory build
	go run ./vmtests/bench -out docs/bench -veneer $(VENEER)

clean:
	rm -rf bin out
