#!/usr/bin/env bash
# Installs what the tests need and runs them all: format, lints, licences, documentation, tests, and a
# look at the release build as a user would use it. Can be run again at no cost; needs no answer typed.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/packages.sh

install_packages build run test
install_guests
install_rust
export RUSTFLAGS="-D warnings" CARGO_INCREMENTAL=0

say "Format"
cargo fmt --all -- --check

say "Lints"
cargo clippy --locked --workspace --all-targets -- -D warnings

say "Licences and sources"
if ! cargo deny --version >/dev/null 2>&1; then
    say "Building cargo-deny (once, some minutes)"
    cargo install --locked --debug --quiet cargo-deny
fi
cargo deny --offline check licenses bans sources

say "The built-in guest is what its source assembles to"
assembled=$(mktemp)
nasm -f bin -o "$assembled" assets/guest/vitrine.asm
cmp "$assembled" assets/guest/vitrine.bin
rm -f "$assembled"

say "Tests"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --locked --workspace --no-fail-fast
else
    cargo test --locked --workspace --no-fail-fast
fi
