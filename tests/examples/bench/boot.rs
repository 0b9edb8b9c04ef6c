//! Linux from the kernel's first instruction to a shell, and off again: the CPU time of the software CPU and of TCG.

use std::path::{Path, PathBuf};

use super::child;
use super::emulator::Workplace;
use super::{ROUNDS, median};

const BUSYBOX: &str = "/bin/busybox";
const PATIENCE_SECONDS: u32 = 300;
const READY: &str = "SHELL READY";
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo SHELL READY
poweroff -f
";

/// Boots on both in turn, and prints what it took.
pub fn compare(workplace: &Workplace) {
    let Some(kernel) = kernel() else {
        println!("skipped: boot: no cloud kernel in /boot (package linux-image-cloud-amd64)");
        return;
    };
    let Ok(busybox) = std::fs::read(BUSYBOX) else {
        println!("skipped: boot: no {BUSYBOX} (package busybox-static)");
        return;
    };
    let initrd = workplace.file("initrd");
    std::fs::write(&initrd, initramfs(&busybox)).expect("room for the initramfs");
    let serial = workplace.file("serial");
    let common = ["-kernel", &kernel.to_string_lossy(), "-initrd", &initrd].map(str::to_owned);
    let soft = format!(
        "{} run --backend soft --memory 512M --headless --serial file:{serial}",
        workplace.vitrine.display()
    );
    let tcg = format!(
        "qemu-system-x86_64 -M pc -accel tcg,thread=single -cpu max -m 512 -display none -no-reboot \
         -serial file:{serial}"
    );
    let take = |line: &str, dashes: &str| {
        std::fs::write(&serial, "").expect("room for a console");
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words
            .extend(common.iter().map(|word| word.replacen('-', dashes, usize::from(word.starts_with('-')))));
        words.extend([format!("{dashes}append"), "console=ttyS0".to_owned()]);
        let ran = child::run(&words, PATIENCE_SECONDS);
        let said = std::fs::read_to_string(&serial).unwrap_or_default();
        assert!(said.contains(READY), "{line}: no shell in\n{said}{}", ran.output);
        ran.cpu_seconds
    };
    let (mut softs, mut tcgs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        softs.push(take(&soft, "--"));
        tcgs.push(take(&tcg, "-"));
    }
    let (soft, tcg) = (median(softs), median(tcgs));
    println!("\nLinux to a shell, CPU seconds: Soft {soft:.2}, TCG {tcg:.2}; Soft to TCG {:.1}", soft / tcg);
}

/// The cloud kernel that sorts last.
fn kernel() -> Option<PathBuf> {
    let entries = std::fs::read_dir("/boot").ok()?.flatten().map(|entry| entry.path());
    let is_kernel = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-") && name.ends_with("-cloud-amd64")
    };
    entries.filter(is_kernel).max()
}

/// A cpio archive (newc, as the kernel's early userspace documentation has it) with busybox and a script as init.
fn initramfs(busybox: &[u8]) -> Vec<u8> {
    const FOLDER: u32 = 0o040_755;
    const PROGRAM: u32 = 0o100_755;
    let mut archive = Vec::new();
    for folder in ["bin", "dev", "proc", "sys"] {
        append(&mut archive, folder, FOLDER, &[]);
    }
    append(
        &mut archive,
        Path::new(BUSYBOX).strip_prefix("/").expect("absolute").to_str().expect("ASCII"),
        PROGRAM,
        busybox,
    );
    append(&mut archive, "init", PROGRAM, INIT.as_bytes());
    append(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

fn append(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let number = archive.len() as u32; // any, but another one for each file
    let fields = [number, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
