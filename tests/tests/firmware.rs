//! Real firmware and real discs, as distributions ship them.

use engine::profile::{Profile, Size};
use machine_tests::{Guest, installed, platforms};

#[test]
fn seabios_reaches_grub_from_a_cd() {
    let Some(iso) = installed("/usr/lib/grub-rescue/grub-rescue-cdrom.iso", "grub-rescue-pc") else { return };
    for platform in platforms() {
        let mut profile = Profile::new("grub");
        profile.cdrom = Some(iso.clone());
        let guest = Guest::start(profile, platform);
        guest.wait_screen("GNU GRUB", 180);
    }
}

#[test]
fn seabios_reaches_grub_from_a_floppy() {
    let Some(image) = installed("/usr/lib/grub-rescue/grub-rescue-floppy.img", "grub-rescue-pc") else {
        return;
    };
    let mut profile = Profile::new("grub");
    profile.floppy = Some(image);
    profile.snapshot = true;
    let guest = Guest::start(profile, machine_tests::SOFT);
    guest.wait_screen("GNU GRUB", 120);
}

#[test]
fn seabios_reaches_grub_from_a_disk() {
    let Some(image) = installed("/usr/lib/grub-rescue/grub-rescue-usb.img", "grub-rescue-pc") else { return };
    let mut profile = Profile::new("grub");
    profile.disks = vec![image];
    profile.snapshot = true;
    let guest = Guest::start(profile, machine_tests::SOFT);
    guest.wait_screen("GNU GRUB", 120);
}

#[test]
fn memtest_draws_its_screen() {
    for iso in ["/usr/lib/memtest86+/memtest86+ia32.iso", "/usr/lib/memtest86+/memtest86+x64.iso"] {
        let Some(iso) = installed(iso, "memtest86+") else { continue };
        let mut profile = Profile::new("memtest");
        profile.cdrom = Some(iso);
        profile.memory = Size::mib(32);
        let guest = Guest::start(profile, machine_tests::SOFT);
        guest.wait_screen("Memtest86+", 120);
        guest.wait_screen("Pass", 120);
    }
}
