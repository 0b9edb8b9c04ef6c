#!/usr/bin/env bash
# Installs what is missing, builds Vitrine and opens its window. With no display it runs the built-in
# guest headless instead, prints what its screen shows, and says where the picture of it lies.
# Can be run again at no cost; needs no answer typed.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/packages.sh

install_packages build run
install_rust
say "Building Vitrine (the first time takes several minutes)"
cargo build --release --locked -p vitrine
vitrine="$PWD/target/release/vitrine"

if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    say "Opening the window: $vitrine $*"
    exec "$vitrine" "$@"
fi

picture="${TMPDIR:-/tmp}/vitrine-guest.png"
say "There is no display; running the built-in guest headless for three seconds. Its screen:"
status=0
"$vitrine" run vitrine --headless --timeout 3 --screenshot "$picture" || status=$?
# 3 says that the time was over, which is what was asked for.
[ "$status" -eq 3 ] || exit "$status"
say "Its picture lies in $picture"
say "On a desktop, run this again for the window, or: $vitrine run FILE"
