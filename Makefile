# The list of commands. `make demo` and `make test` do all the set-up they need.

TOOLS = podman runc crun fuse-overlayfs fuse3 uidmap skopeo buildah slirp4netns iptables netavark \
	aardvark-dns conmon catatonit busybox-static umoci strace time iproute2 jq util-linux \
	libseccomp-dev libelf-dev zlib1g-dev pkg-config gcc

.PHONY: build tools test lint demo bench clean

build:
	cargo build --release --locked

# What the build and the tests need of Debian.
tools:
	@tests/install-tools $(TOOLS)

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets --features lab -- -D warnings

test: tools build
	cargo build --release --locked --manifest-path tests/client/Cargo.toml
	tests/lab cargo test --release --locked --no-fail-fast --features lab --tests

# From layers in directories to a running container. IMAGE=NAME takes one of a repository at /cvmfs.
demo: tools build
	@tests/demo $(IMAGE)

# One table: cvmfs-run beside runc and crun. /run is a tmpfs, as on any host.
bench: tools
	unshare --mount sh -c 'mount -t tmpfs tmpfs /run && exec cargo bench --locked --bench runtime'

clean:
	cargo clean
	cargo clean --manifest-path tests/client/Cargo.toml
