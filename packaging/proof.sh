#!/usr/bin/env bash
# Shows with a real Debian what the monitor promises. Makes its disk the first time (some minutes, as root), builds, runs:
#   packaging/proof.sh durability [BUS ...] [--rounds N] [--seed N]  killed at random moments, all that was flushed is there
#   packaging/proof.sh network [CARD ...]                            lease, ping, names, transfers, 200 connections, a forward
# BUS: ide, ahci, virtio. CARD: e1000, virtio. Prints a table; the exit status tells.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/packages.sh

install_packages build run proof
install_rust
image=target/proof/debian.qcow2
if [ ! -f "$image" ]; then
    mkdir -p target/proof
    as_root packaging/debian-image.sh "$image"
    as_root chown "$(id -u):$(id -g)" "$image"
fi
cargo build --release --locked -p vitrine
cargo build --release --locked -p machine-tests --example proof
exec target/release/examples/proof "$1" "$image" "${@:2}"
