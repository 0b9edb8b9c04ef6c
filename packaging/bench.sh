#!/usr/bin/env bash
# Installs what the benchmark compares with, builds, and prints the table: the software CPU beside Bochs and QEMU's TCG,
# in CPU seconds on one core, the boot of Linux and virtio. Arguments choose rows by a part of their name:
#   packaging/bench.sh            everything (some minutes)
#   packaging/bench.sh SSE boot   two rows
#   packaging/bench.sh io         virtio disk and network
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/packages.sh

install_packages build bench
install_rust
# One after the other: together, the packages would share features, and everything be built anew.
cargo build --release --locked -p vitrine
cargo build --release --locked -p machine-tests --example bench
exec target/release/examples/bench "$@"
