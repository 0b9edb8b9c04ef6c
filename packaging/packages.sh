# What the host must have, by purpose and distribution. Sourced by the other scripts here.

# Names of the same things on Debian/Ubuntu, Fedora and Arch.
build_debian="gcc libc6-dev pkg-config libasound2-dev curl ca-certificates"
build_fedora="gcc glibc-devel pkgconf-pkg-config alsa-lib-devel curl ca-certificates"
build_arch="gcc pkgconf alsa-lib curl ca-certificates"

run_debian="seabios libx11-6 libx11-xcb1 libxcursor1 libxi6 libxkbcommon-x11-0 libwayland-client0 libxkbcommon0 libvulkan1 mesa-vulkan-drivers libegl1 libgl1-mesa-dri"
run_fedora="seabios-bin seavgabios-bin libX11 libX11-xcb libXcursor libXi libxkbcommon-x11 libwayland-client libxkbcommon vulkan-loader mesa-vulkan-drivers mesa-libEGL mesa-dri-drivers"
run_arch="seabios libx11 libxcursor libxi libxkbcommon-x11 wayland vulkan-icd-loader vulkan-swrast mesa"

test_debian="nasm gdb grub-rescue-pc memtest86+ xvfb x11-apps imagemagick xdotool"
# Real systems that tests run where the distribution has them.
guests_debian="busybox-static linux-image-cloud-amd64 linux-image-amd64 debian-installer-12-netboot-i386 debian-installer-12-netboot-amd64"

bench_debian="bochs bochsbios vgabios qemu-system-x86 linux-image-cloud-amd64 busybox-static"
proof_debian="debootstrap qemu-utils e2fsprogs fdisk"

say() { printf '\n== %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else echo "Please run this as root: $*" >&2; exit 1; fi
}

# Installs the Debian packages among "$@" that are missing; asks nothing, does nothing when all are there.
install_debian() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
    done
    [ -z "$missing" ] && return 0
    say "Installing:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    # INITRD=No: a kernel that is only a guest needs no initial ramdisk of this host.
    as_root env DEBIAN_FRONTEND=noninteractive INITRD=No apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Installs those of the guests' packages that this distribution has.
install_guests() {
    command -v apt-get >/dev/null || return 0
    for package in $guests_debian; do
        if apt-cache show "$package" >/dev/null 2>&1; then install_debian "$package"; fi
    done
}

# Installs what is missing for the purposes named (build, run, test).
install_packages() {
    if command -v apt-get >/dev/null; then
        for purpose in "$@"; do
            eval "list=\$${purpose}_debian"
            # shellcheck disable=SC2086
            install_debian $list
        done
    elif command -v dnf >/dev/null; then
        # shellcheck disable=SC2086
        as_root dnf install -y -q $build_fedora $run_fedora
    elif command -v pacman >/dev/null; then
        # shellcheck disable=SC2086
        as_root pacman -S --needed --noconfirm --quiet $build_arch $run_arch
    else
        echo "This distribution's package manager is not known here; README.md lists what is needed." >&2
    fi
}

# Makes `cargo` available; the toolchain itself is named in rust-toolchain.toml.
install_rust() {
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    command -v cargo >/dev/null && return 0
    say "Installing Rust by rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
    . "$HOME/.cargo/env"
}
