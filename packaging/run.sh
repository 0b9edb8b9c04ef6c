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
script=$(mktemp)
trap 'rm -f "$script"' EXIT
printf '%s\n' 'wait-screen "Clock" 20' 'sleep 2000' 'key h' 'key i' 'sleep 300' "screenshot $picture" 'key f4' > "$script"
say "There is no display; running the built-in guest headless for three seconds"
"$vitrine" run vitrine --headless --script "$script" --print-screen --timeout 60
say "Its picture lies in $picture"
say "On a desktop, run this again for the window, or: $vitrine run FILE"
