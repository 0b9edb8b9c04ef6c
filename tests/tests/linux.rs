//! Linux as distributions ship it, on the software CPU: Debian's cloud kernel to a shell and off again, with a log
//! free of complaints, and Debian's installer to its first question.

use engine::Ending;
use engine::profile::{Direct, Profile, Size};
use machine_tests::initramfs::Initramfs;
use machine_tests::linux::cloud_kernel;
use machine_tests::{Guest, SOFT, installed};

/// Words of a kernel that does not like its machine. "Bug" is not among them: a harmless line asks for reports.
const COMPLAINTS: [&str; 15] = [
    "warning",
    "oops",
    "bug:",
    "[firmware bug",
    "unstable",
    "stall",
    "call trace",
    "inconsistent",
    "lockup",
    "panic",
    "corrected configuration",
    "spurious",
    "failed",
    "timed out",
    "not responding",
];

/// What the guest does once it has a shell.
const SCRIPT: &str = "
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
echo \"CPUS $(grep -c '^processor' /proc/cpuinfo)\"
dd if=/dev/zero bs=1M count=4 2>/dev/null | sha256sum
dd if=/dev/urandom of=/tmp/r bs=1M count=1 2>/dev/null
gzip -c /tmp/r | gunzip -c | cmp - /tmp/r && echo GZIP OK
awk 'BEGIN { for (i = 0; i < 20000; i++) s += i * i; print \"AWK\", s }'
i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done; echo FORKS $i
echo STAINS $(cat /proc/sys/kernel/tainted) CLOCK $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
echo ALL DONE
poweroff -f
";

fn boots_to_a_shell_and_off(cpus: u32) {
    let (Some(kernel), Some(busybox)) = (cloud_kernel(), installed("/bin/busybox", "busybox-static")) else {
        return;
    };
    let archive = Initramfs::with_busybox(&std::fs::read(busybox).unwrap(), SCRIPT);
    let initrd = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(initrd.path(), archive).unwrap();
    let mut profile = Profile::new("linux");
    profile.memory = Size::mib(256);
    profile.cpus = cpus;
    profile.direct = Some(Direct::Kernel {
        image: kernel,
        initrd: Some(initrd.path().to_owned()),
        append: "console=ttyS0".to_owned(),
    });
    let guest = Guest::start(profile, SOFT);
    guest.wait_until(1200, "the end", || guest.serial().contains("ALL DONE"));
    assert_eq!(guest.wait_end(60), Ending::PoweredOff);
    let log = guest.serial();
    for expected in [
        &format!("CPUS {cpus}"),
        "bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8",
        "GZIP OK",
        "AWK 2666466670000",
        "FORKS 100",
        "STAINS 0 CLOCK",
        "reboot: Power down",
    ] {
        assert!(log.contains(expected), "{expected:?} is not in the log:\n{log}");
    }
    let complains = |line: &&str| {
        let line = line.to_lowercase();
        COMPLAINTS.iter().any(|word| line.contains(word))
    };
    let complaints: Vec<&str> = log.lines().filter(complains).collect();
    assert_eq!(complaints, [""; 0], "{cpus} CPUs");
}

#[test]
fn the_cloud_kernel_boots_to_a_shell_and_off() {
    boots_to_a_shell_and_off(1);
}

#[test]
fn the_cloud_kernel_boots_with_two_cpus() {
    boots_to_a_shell_and_off(2);
}

fn installer_asks_for_a_language(architecture: &str) {
    let folder =
        format!("/usr/lib/debian-installer/images/12/{architecture}/text/debian-installer/{architecture}");
    let package = format!("debian-installer-12-netboot-{architecture}");
    let (Some(image), Some(initrd)) = (
        installed(&format!("{folder}/linux"), &package),
        installed(&format!("{folder}/initrd.gz"), &package),
    ) else {
        return;
    };
    let mut profile = Profile::new("installer");
    profile.memory = Size::mib(1024);
    // It stays in text mode, where the test can read.
    let append = "vga=normal nomodeset".to_owned();
    profile.direct = Some(Direct::Kernel { image, initrd: Some(initrd), append });
    let guest = Guest::start(profile, SOFT);
    guest.wait_screen("Select a language", 1800);
}

#[test]
fn debians_installer_for_pcs_of_32_bits_asks_for_a_language() {
    installer_asks_for_a_language("i386");
}
