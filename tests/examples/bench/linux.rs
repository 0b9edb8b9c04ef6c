//! A Linux guest on the software CPU and on TCG: how each is started, and what came of it.

use std::path::Path;

use machine_tests::linux::Linux;

use super::child;
use super::emulator::Workplace;

const PATIENCE_SECONDS: u32 = 300;

/// Who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// Vitrine's software CPU.
    Soft,
    /// QEMU without KVM.
    Tcg,
}

/// One run.
pub struct Booted {
    /// User and system time of the emulator.
    pub cpu_seconds: f64,
    /// What came over the serial line.
    pub serial: String,
}

impl Runner {
    /// Both, in the order of tables.
    pub const BOTH: [Runner; 2] = [Runner::Soft, Runner::Tcg];

    /// Runs the guest until it powers off, with more `devices` in the runner's own words.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn boot(self, workplace: &Workplace, linux: &Linux, devices: &str) -> Booted {
        let serial = workplace.file("serial");
        std::fs::write(&serial, "").expect("room for a console");
        let (line, dashes) = match self {
            Runner::Soft => (
                format!(
                    "{} run --backend soft --memory 512M --headless --serial file:{serial} {devices}",
                    workplace.vitrine.display()
                ),
                "--",
            ),
            Runner::Tcg => (
                format!(
                    "qemu-system-x86_64 -M pc -accel tcg,thread=single -cpu max -m 512 -display none -no-reboot \
                     -serial file:{serial} {devices}"
                ),
                "-",
            ),
        };
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let path = |path: &Path| path.to_string_lossy().into_owned();
        words.extend([format!("{dashes}kernel"), path(linux.kernel())]);
        words.extend([format!("{dashes}initrd"), path(&linux.initrd())]);
        words.extend([format!("{dashes}append"), "console=ttyS0 panic=-1".to_owned()]);
        let ran = child::run(&words, PATIENCE_SECONDS);
        let serial = std::fs::read(&serial).expect("what the guest said");
        let serial = format!("{}{}", String::from_utf8_lossy(&serial), ran.output);
        Booted { cpu_seconds: ran.cpu_seconds, serial }
    }
}
