#!/usr/bin/env bash
# Makes a disk with a small Debian 12 on it, by debootstrap: SeaBIOS starts its GRUB, and root is logged in on the first
# serial port. Run as root (debootstrap must be); mounts nothing and needs no loop device.
#   packaging/debian-image.sh IMAGE.qcow2
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/packages.sh

image=$1
suite=bookworm
packages=linux-image-amd64,initramfs-tools,grub-pc,systemd-sysv,udev,ifupdown,isc-dhcp-client,iproute2,iputils-ping,bind9-host,netcat-openbsd,python3-minimal,procps
install_packages proof

# The mirror this host itself uses, if it is a Debian of the same suite.
mirror=$(apt-get indextargets --format '$(SITE)' "Release: $suite" 2>/dev/null | head -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root disk=$work/disk.raw

say "Debian's packages, by debootstrap"
debootstrap --variant=minbase --include="$packages" "$suite" "$root" "${mirror:-http://deb.debian.org/debian}" >"$work/log" 2>&1 ||
    { tail -20 "$work/log" >&2; exit 1; }

say "Settings"
echo "LABEL=root / ext4 errors=remount-ro 0 1" >"$root/etc/fstab"
echo debian >"$root/etc/hostname"
chroot "$root" passwd --delete root >/dev/null
printf 'auto lo\niface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n' >"$root/etc/network/interfaces"
getty=$root/etc/systemd/system/serial-getty@ttyS0.service.d
mkdir -p "$getty" "$root/etc/systemd/system/getty.target.wants"
printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 ttyS0 vt100\n' >"$getty/login.conf"
ln -sf /lib/systemd/system/serial-getty@.service "$root/etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service"
rm -f "$root"/var/cache/apt/archives/*.deb

say "GRUB"
version=$(ls "$root/boot" | sed -n 's/^vmlinuz-//p' | tail -1)
cp -r "$root/usr/lib/grub/i386-pc" "$root/boot/grub/"
cat >"$root/boot/grub/grub.cfg" <<END
serial --unit=0 --speed=115200
terminal_output console serial
set timeout=1
menuentry "Debian" {
    search --no-floppy --label root --set=root
    linux /boot/vmlinuz-$version root=LABEL=root ro console=tty0 console=ttyS0,115200 net.ifnames=0
    initrd /boot/initrd.img-$version
}
END
chroot "$root" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /boot/core.img biosdisk part_msdos ext2

say "The disk"
truncate -s 3G "$disk"
echo 'label: dos
2048,,L,*' | sfdisk -q "$disk"
# The file system from 1 MiB on, filled as it is made; in the room before it, GRUB.
mke2fs -q -t ext4 -L root -d "$root" -E offset=1048576 "$disk" 3071M
dd if="$root/boot/grub/i386-pc/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$root/boot/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
qemu-img convert -O qcow2 "$disk" "$image.new"
mv "$image.new" "$image"
