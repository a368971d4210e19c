# The list of commands. `make demo` and `make test` do all the set-up they need.

TOOLS = podman runc crun fuse-overlayfs fuse3 uidmap skopeo buildah slirp4netns iptables netavark \
	aardvark-dns conmon catatonit busybox-static umoci strace time iproute2 jq util-linux \
	libseccomp-dev pkg-config gcc groff-base debootstrap slurm-wlm munge docker.io \
	containerd docker-registry

# Where `make install` puts things; DESTDIR goes before all of them.
PREFIX = /usr/local
SYSCONFDIR = /etc

# Static programs start in half the time: nothing is loaded, nothing relocated. They are built with
# libc.a and libseccomp.a; STATIC= builds dynamic ones, where a distribution lacks these.
STATIC = 1
ifneq ($(STATIC),)
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
STATICALLY = CARGO_BUILD_TARGET=$(HOST) \
	RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
	LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH="$$(pkg-config --variable=libdir libseccomp)"
# Where the built programs are; root, who installs them, may have no Rust.
BIN = $(if $(HOST),target/$(HOST)/release,$(patsubst %/cvmfs-run,%,$(firstword $(wildcard target/*/release/cvmfs-run))))
else
BIN = target/release
endif
export CVMFS_RUN_BIN = $(CURDIR)/$(BIN)

.PHONY: build libraries tools trixie test matrix lint demo bench man install uninstall clean

build: libraries
	$(STATICALLY) cargo build --release --locked

libraries:
	@[ -z "$(STATIC)" ] || [ -e "$$(pkg-config --variable=libdir libseccomp)/libseccomp.a" ] || \
	    { echo "no libseccomp.a: run make tools, or build dynamic programs with make STATIC=" >&2; exit 1; }

# What the build and the tests need of Debian.
tools:
	@tests/install-tools $(TOOLS)

# Debian trixie, once for a machine, for the tests with podman 5.
trixie: tools
	@tests/trixie make

# As the tests are built, so that they share what both need of the dependencies.
lint: libraries
	cargo fmt --check
	$(STATICALLY) cargo clippy --release --locked --all-targets --features lab -- -D warnings

# The programs are built with the tests.
test: tools trixie libraries
	cargo fetch --locked
	cargo build --release --locked --manifest-path tests/client/Cargo.toml
	$(STATICALLY) cargo test --release --locked --features lab --tests --no-run
	$(STATICALLY) tests/lab cargo test --release --locked --no-fail-fast --features lab --tests

# podman's command lines beside runc, all on thin and on ordinary images; `make test` takes every
# other group of them in each cell, on one of both in turn.
matrix: tools build
	cargo fetch --locked
	cargo build --release --locked --manifest-path tests/client/Cargo.toml
	CVMFS_RUN_TEST_MATRIX=all tests/lab cargo test --release --locked --features lab --test matrix

# From layers in directories to a running container. IMAGE=NAME takes one of a repository at /cvmfs.
demo: tools build
	@tests/demo $(IMAGE)

# Two tables: cvmfs-run beside runc and crun, and cvmfs-image pull beside podman pull, which needs the
# tests' input. /run is a tmpfs, as on any host.
bench: tools build
	$(STATICALLY) unshare --mount sh -c 'mount -t tmpfs tmpfs /run && exec cargo bench --locked --bench runtime'
	cargo build --release --locked --manifest-path tests/client/Cargo.toml
	$(STATICALLY) tests/lab cargo bench --locked --features lab --bench pull

# Writes the manual pages and completions that are made from the command lines' definition.
man:
	CVMFS_RUN_WRITE_PAGES=1 cargo test --locked --test manual up_to_date

# Does not build, so that root need not: make build, then make install.
SHARE = $(DESTDIR)$(PREFIX)/share
CONFIG = $(DESTDIR)$(SYSCONFDIR)/cvmfs-run/cvmfs-run.toml
PROGRAMS = cvmfs-run cvmfs-image
PAGES = cvmfs-image.1 cvmfs-run.toml.5 cvmfs-run-annotations.7 cvmfs-run.8
HOOKS = $(shell [ ! -d hooks ] || find hooks -type f | sort)

install:
	@test -x $(BIN)/cvmfs-run || { echo "no $(BIN)/cvmfs-run: run make build first" >&2; exit 1; }
	for program in $(PROGRAMS); do \
	    install -D $(BIN)/$$program $(DESTDIR)$(PREFIX)/bin/$$program && \
	    install -D -m 644 completions/$$program.bash $(SHARE)/bash-completion/completions/$$program && \
	    install -D -m 644 completions/_$$program $(SHARE)/zsh/site-functions/_$$program && \
	    install -D -m 644 completions/$$program.fish $(SHARE)/fish/vendor_completions.d/$$program.fish || exit; \
	done
	for page in $(PAGES); do \
	    install -D -m 644 man/$$page $(SHARE)/man/man$${page##*.}/$$page || exit; \
	done
	for file in $(HOOKS); do \
	    mode=644; [ ! -x $$file ] || mode=755; \
	    install -D -m $$mode $$file $(SHARE)/cvmfs-run/$$file || exit; \
	done
	sed -i 's|/usr/local/bin/cvmfs-run|$(PREFIX)/bin/cvmfs-run|' \
	    $(patsubst %,$(SHARE)/cvmfs-run/%,$(filter hooks/oci/% %.conf,$(HOOKS)))
	[ -e $(CONFIG) ] || install -D -m 644 etc/cvmfs-run.toml $(CONFIG)

# A configuration that was changed stays. Without the runtime that its settings name podman does nothing.
uninstall:
	@[ ! -e $(DESTDIR)$(SYSCONFDIR)/containers/containers.conf.d/cvmfs-run.conf ] || \
	    { echo "podman is still told of it: cvmfs-run configure podman --remove" >&2; exit 1; }
	for program in $(PROGRAMS); do \
	    rm -f $(DESTDIR)$(PREFIX)/bin/$$program $(SHARE)/bash-completion/completions/$$program \
	        $(SHARE)/zsh/site-functions/_$$program $(SHARE)/fish/vendor_completions.d/$$program.fish; \
	done
	for page in $(PAGES); do rm -f $(SHARE)/man/man$${page##*.}/$$page; done
	for file in $(HOOKS); do rm -f $(SHARE)/cvmfs-run/$$file; done
	! cmp -s etc/cvmfs-run.toml $(CONFIG) || rm $(CONFIG)
	for directory in $(SHARE)/cvmfs-run $(DESTDIR)$(SYSCONFDIR)/cvmfs-run; do \
	    [ ! -d $$directory ] || find $$directory -depth -type d -empty -delete; \
	done

clean:
	cargo clean
	cargo clean --manifest-path tests/client/Cargo.toml
