//! The three that run the guest, and how each is started.

use std::path::{Path, PathBuf};

use machine_tests::assembler;

use super::child;
use super::loops::Loop;

/// Size of the disk: 20 cylinders, 16 heads, 63 sectors a track.
const DISK_BYTES: usize = 20 * 16 * 63 * 512;
/// Seconds until a run is taken to hang.
const PATIENCE_SECONDS: u32 = 300;

/// Who runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// Vitrine's software CPU.
    Soft,
    /// Bochs.
    Bochs,
    /// QEMU without KVM.
    Tcg,
}

/// One run.
#[derive(Debug)]
pub struct Run {
    /// CPU time.
    pub seconds: f64,
    /// What the guest computed.
    pub value: String,
}

/// Where runs find and leave their files.
pub struct Workplace {
    /// The monitor.
    pub vitrine: PathBuf,
    folder: tempfile::TempDir,
}

impl Emulator {
    /// All of them, in the order of the table.
    pub const ALL: [Emulator; 3] = [Emulator::Soft, Emulator::Bochs, Emulator::Tcg];
}

impl Workplace {
    /// An empty one.
    pub fn new(vitrine: PathBuf) -> Workplace {
        Workplace { vitrine, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// Runs a loop `count` times.
    ///
    /// # Panics
    /// When the guest says nothing.
    pub fn run(&self, emulator: Emulator, measured: &Loop, count: u64) -> Run {
        let disk = self.file("disk.img");
        std::fs::write(&disk, image(measured.number, count)).expect("room for a small disk");
        let console = self.file("console");
        std::fs::write(&console, "").expect("room for a line");
        let ran = child::run(&self.words(emulator, &disk, &console), PATIENCE_SECONDS);
        let said = std::fs::read(&console).expect("what the guest said");
        let said = String::from_utf8_lossy(&said) + ran.output.as_str();
        let is_value = |line: &&str| line.len() == 16 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = said.lines().rfind(is_value);
        let value = value.unwrap_or_else(|| panic!("{emulator:?}, {}: no value in\n{said}", measured.name));
        Run { seconds: ran.cpu_seconds, value: value.to_owned() }
    }

    fn words(&self, emulator: Emulator, disk: &str, console: &str) -> Vec<String> {
        let line = match emulator {
            Emulator::Soft => format!(
                "{} run --backend soft --memory 256M --headless --debug-exit --disk {disk} --debugcon {console}",
                self.vitrine.display()
            ),
            Emulator::Bochs => {
                let settings = self.file("bochsrc");
                std::fs::write(&settings, bochs_settings(disk, &self.file("log")))
                    .expect("room for a small file");
                let commands = self.file("commands");
                std::fs::write(&commands, "c\n").expect("room for a line"); // Debian's has the debugger in it
                format!("bochs -q -f {settings} -rc {commands}")
            }
            Emulator::Tcg => format!(
                "qemu-system-x86_64 -M pc -accel tcg,thread=single -m 256 -display none -no-reboot \
                 -drive file={disk},format=raw -debugcon file:{console} \
                 -device isa-debug-exit,iobase=0xf4,iosize=1"
            ),
        };
        line.split_whitespace().map(str::to_owned).collect()
    }
}

/// The guest, told what to do, as a disk.
fn image(number: u32, count: u64) -> Vec<u8> {
    let mut disk = assembler::binary("../bench/bench");
    disk[8..12].copy_from_slice(&number.to_le_bytes());
    disk[16..24].copy_from_slice(&count.to_le_bytes());
    disk.resize(DISK_BYTES, 0);
    disk
}

fn bochs_settings(disk: &str, log: &str) -> String {
    let vga = ["/usr/share/bochs/VGABIOS-lgpl-latest", "/usr/share/vgabios/vgabios.bin"];
    let vga = vga.into_iter().find(|path| Path::new(path).exists()).expect("package vgabios");
    format!(
        "config_interface: textconfig\n\
         display_library: rfb, options=\"timeout=0\"\n\
         plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=0, parallel=0, serial=0, gameport=0, iodebug=0\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file={vga}\n\
         memory: guest=256, host=256\n\
         cpu: count=1, ips=100000000\n\
         clock: sync=none\n\
         boot: disk\n\
         ata0: enabled=1\n\
         ata0-master: type=disk, path={disk}, mode=flat, cylinders=20, heads=16, spt=63\n\
         port_e9_hack: enabled=1\n\
         log: {log}\n"
    )
}
