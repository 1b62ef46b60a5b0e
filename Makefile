# Everything that is built, tested, measured and installed. `make demo` and `make test` set up what they need.

VERSION  := 0.1.0
SOMAJOR  := 0
PREFIX   ?= /usr/local
DESTDIR  ?=
BUILD    := build
VENV     := .venv
PYTHON   ?= python3
CC       ?= cc
CARGO    ?= cargo
# Fuzzing in `make soak`, a target.
FUZZ_SECONDS ?= 1800
# `dist` is what ships; `dev` is what tests use, so that they build once.
PROFILE  ?= dev
TARGET   := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# A smaller build, such as FEATURES=gateway,tls; all of it when empty.
FEATURES ?=
SELECT   := $(if $(FEATURES),--no-default-features --features $(FEATURES) --features ffi,)
# A library that is also an rlib gets no link-time optimisation from cargo, so what ships is asked for by its crate type,
# and the program by itself.
COMPILE  := rustc --lib --crate-type staticlib
COMPILE  := $(if $(filter dev,$(PROFILE)),build $(if $(FEATURES),--lib),$(COMPILE))

# What ships has an SQLite without what its build script adds and nobody here uses: 250 KB less, and no loading of code.
ifneq ($(PROFILE),dev)
export LIBSQLITE3_FLAGS := $(addprefix -USQLITE_ENABLE_,FTS3 FTS3_PARENTHESIS FTS5 RTREE DBSTAT_VTAB STAT4 LOAD_EXTENSION) \
	-DSQLITE_OMIT_LOAD_EXTENSION
endif

SONAME   := libhailpost.so.$(SOMAJOR)
SHARED   := $(BUILD)/libhailpost.so.$(VERSION)
ARCHIVE  := $(TARGET)/libhailpost.a
PROGRAM  := $(TARGET)/hailpost
MAP      := include/hailpost.map
# What rustc names for the static library (--print native-static-libs).
LIBS     := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
STRIP    := $(if $(filter dev,$(PROFILE)),no,yes)
STAGE    := $(CURDIR)/$(BUILD)/stage
export PREFIX DESTDIR VERSION SOMAJOR LIBS STRIP

.PHONY: all demo demo-gateway test setup setup-demo setup-bench lint test-rust test-c test-python package lib program \
	stage install sizes bench soak clean

all: lib

# A back end and three gateways: one in C against the installed library, one in Python, one by the program.
demo: setup-demo stage package demo-gateway
	@LD_LIBRARY_PATH=$(STAGE)/lib $(STAGE)/bin/hailpost demo \
	  --gateway 'kitchen:C=exec $(BUILD)/demo/home_gateway backend="$$HAILPOST_BACKEND" \
	    identity_file="$$HAILPOST_IDENTITY" backoff_ms=200 backoff_max_ms=1000' \
	  --gateway 'hall:Python=exec $(VENV)/bin/python python/examples/home_gateway.py "$$HAILPOST_BACKEND" "$$HAILPOST_IDENTITY"'

demo-gateway: export PKG_CONFIG_PATH = $(STAGE)/lib/pkgconfig
demo-gateway: stage
	@mkdir -p $(BUILD)/demo
	$(CC) -o $(BUILD)/demo/home_gateway examples/c/home_gateway.c $$(pkg-config --cflags --libs hailpost)

test: setup lint test-rust test-c test-python demo

## Set-up: says what it installs, asks nothing, can be run twice.

setup:
	@scripts/setup.sh $(VENV) test

setup-demo:
	@scripts/setup.sh $(VENV) demo

setup-bench:
	@scripts/setup.sh $(VENV) bench

## Tests

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	$(CARGO) clippy --no-default-features --features gateway -- -D warnings
	$(CARGO) clippy --no-default-features --features device -- -D warnings
	$(CARGO) clippy --no-default-features --features post -- -D warnings

# What the build wrote goes to the disk first: a test that waits for its own must not wait for that.
test-rust:
	$(CARGO) test --no-run
	@sync
	$(CARGO) test

# Against an installed tree, built only from what pkg-config says.
test-c: stage
	@CC="$(CC)" ctests/run.sh $(STAGE) $(BUILD)/ctests

test-python: setup package
	$(VENV)/bin/python -m pytest
	$(VENV)/bin/mypy --package hailpost
	$(VENV)/bin/mypy python/examples python/tests
	cd python && ../$(VENV)/bin/python -m mypy.stubtest hailpost --mypy-config-file ../pyproject.toml

# What `maturin develop` does, without its environment, for which cargo would build pyo3 again.
package:
	$(CARGO) build --profile $(PROFILE) -p hailpost-python
	@install -m 755 $(TARGET)/lib_hailpost.so python/hailpost/_hailpost.abi3.so
	@echo "the Python package, for $(VENV)/bin/python:"
	@echo '$(CURDIR)/python' > "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/hailpost.pth"

## The library

lib:
	$(CARGO) $(COMPILE) --profile $(PROFILE) $(SELECT)
	@CC="$(CC)" scripts/link.sh $(ARCHIVE) $(SHARED) $(SONAME) $(MAP) "$(LIBS)"

# The program is made of all there is; a smaller library has none.
program:
ifeq ($(FEATURES),)
	$(CARGO) build --profile $(PROFILE) --bin hailpost
endif

install: lib program
	@scripts/install.sh $(SHARED) $(ARCHIVE) $(PROGRAM)

# The installed tree that the C tests and the demonstration are built against.
stage:
	@$(MAKE) -s install PREFIX=$(STAGE) DESTDIR=

# The stripped library by build profile. Slow: each is a build of its own.
sizes:
	@nice scripts/sizes.sh

# Everything that a figure is promised for, beside nDPI: prints the table, and writes it with a plot to BENCH. The page in
# docs/ is made by BENCH=docs.
BENCH    ?= $(BUILD)/bench
CAPTURES ?= ../shared/captures/pcap
bench: setup-bench sizes
	$(CARGO) build --release --bin hailpost
	@$(PYTHON) scripts/bench.py target/release/hailpost $(BENCH) $(CAPTURES)
	$(CARGO) bench --bench datagrams --bench restart

# An office is killed so often, under load from real clients.
KILLS ?= 100
soak: setup package
	HAILPOST_KILLS=$(KILLS) $(VENV)/bin/python -m pytest -s python/tests/test_kills.py
	HAILPOST_SEEDS=100000 $(CARGO) test --test simulation -- --nocapture
	scripts/fuzz.sh $(FUZZ_SECONDS)
	ASAN=1 scripts/fuzz.sh $(FUZZ_SECONDS)

clean:
	rm -rf $(BUILD) $(VENV)
	$(CARGO) clean
