//! The command line as scripts know it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use engine::backend::{Backend, InterruptMode};
use engine::network::Forward;
use engine::profile::{DiskBus, DisplayAdapter, Firmware, LostTicks, Network, Nic, Paravirtual, Size};
use engine::sound::{Audio, SoundCards};
use storage::Format;

use super::snapshot::SnapshotCommand;
use crate::control::ControlArguments;

/// A desktop virtual machine monitor you can see through.
#[derive(Debug, Parser)]
#[command(name = "vitrine", version, after_help = EXIT_STATUS)]
pub struct Arguments {
    /// What to do; without it, the window opens.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `--help` ends with.
pub const EXIT_STATUS: &str = "Exit status: 0 the guest powered off or the awaited text came; 1 error; 2 usage; \
3 time over; 4 the guest crashed; (value<<1)|1 with --debug-exit.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a file, a saved machine or a built-in guest.
    #[command(after_help = EXIT_STATUS)]
    Run(Box<RunArguments>),
    /// List the saved machines and the built-in guests.
    List,
    /// Show a machine's profile.
    Show {
        /// The machine.
        name: String,
    },
    /// Save a new machine.
    Create {
        /// Its name.
        name: String,
        /// What it boots; its kind is told by its content.
        file: Option<PathBuf>,
        /// Make an empty disk for it, of this length, for example 20G.
        #[arg(long, value_name = "SIZE")]
        new_disk: Option<Size>,
        #[command(flatten)]
        machine: Box<MachineArguments>,
    },
    /// Delete a saved machine and what lies in its folder.
    Delete {
        /// The machine.
        name: String,
    },
    /// Look at and change machines that run: `vitrine ctl [NAME] COMMAND`.
    Ctl(ControlArguments),
    /// Save machines that run, and put them back: all of it, memory, devices and disks.
    Snapshot {
        /// What to do.
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Say what this host offers, and how to mend what is missing.
    Doctor,
    /// Make, look at, convert, resize, check and merge disk images.
    Disk {
        /// What to do.
        #[command(subcommand)]
        command: DiskCommand,
    },
}

/// `vitrine disk`.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// Make a new, empty image.
    Create {
        /// The new file.
        file: PathBuf,
        /// Its length, for example 10G; may be left out with --backing.
        #[arg(long, value_name = "SIZE", required_unless_present = "backing")]
        size: Option<Size>,
        /// qcow2, raw, vdi or vhd.
        #[arg(long, value_name = "FORMAT", default_value = "qcow2")]
        format: Format,
        /// An image to show where nothing is written yet; it is never written.
        #[arg(long, value_name = "FILE")]
        backing: Option<PathBuf>,
        /// Give all blocks their place at once (vdi, vhd).
        #[arg(long)]
        fixed: bool,
    },
    /// Tell what an image is.
    Info {
        /// The image.
        file: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Copy an image, with all it is based on, into a new one.
    Convert {
        /// The image; its format is told by its content.
        from: PathBuf,
        /// The new file.
        to: PathBuf,
        /// qcow2, raw, vdi or vhd.
        #[arg(long, value_name = "FORMAT", default_value = "qcow2")]
        format: Format,
        /// Its length, if it is to be longer, for example 20G; what is added is zeros.
        #[arg(long, value_name = "SIZE")]
        size: Option<Size>,
        /// Give all blocks their place at once (vdi, vhd).
        #[arg(long)]
        fixed: bool,
    },
    /// Change the length of an image.
    Resize {
        /// The image.
        file: PathBuf,
        /// Its new length, for example 20G.
        size: Size,
        /// It may become shorter; what is cut off is lost.
        #[arg(long)]
        shrink: bool,
    },
    /// Look through an image for damage.
    Check {
        /// The image.
        file: PathBuf,
        /// Give back room that nothing uses, and mend counts (qcow2).
        #[arg(long)]
        repair: bool,
    },
    /// Write what an overlay holds into the image it is based on.
    Merge {
        /// The overlay.
        file: PathBuf,
    },
}

/// What a machine is made of.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct MachineArguments {
    /// Who executes the guest's instructions: auto, kvm or soft.
    #[arg(long, value_name = "auto|kvm|soft")]
    pub backend: Option<Backend>,
    /// Where the interrupt controllers live under KVM: glass, split or kernel.
    #[arg(long, value_name = "glass|split|kernel")]
    pub interrupts: Option<InterruptMode>,
    /// Memory, for example 256M or 1G.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Number of virtual CPUs.
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Firmware image, or none.
    #[arg(long, value_name = "PATH|none", value_parser = firmware)]
    pub firmware: Option<Firmware>,
    /// CD-ROM image, or a folder to be offered as one.
    #[arg(long, value_name = "F")]
    pub cdrom: Option<PathBuf>,
    /// Hard disk image, or a folder to be offered as one (read only); may be repeated.
    #[arg(long, value_name = "F")]
    pub disk: Vec<PathBuf>,
    /// What hard disks (with ahci, the CD-ROM too) hang on.
    #[arg(long, value_name = "ide|ahci|virtio")]
    pub disk_bus: Option<DiskBus>,
    /// Floppy image.
    #[arg(long, value_name = "F")]
    pub floppy: Option<PathBuf>,
    /// The display adapter; virtio-gpu is one beside the VGA.
    #[arg(long, value_name = "vga|virtio-gpu")]
    pub display: Option<DisplayAdapter>,
    /// Virtio devices beside disks and cards, with commas between them.
    #[arg(long, value_name = "none|entropy,balloon,console,tablet,keyboard")]
    pub paravirtual: Option<Paravirtual>,
    /// What becomes of timer ticks that came too late to be told one by one.
    #[arg(long, value_name = "merge|replay")]
    pub lost_ticks: Option<LostTicks>,
    /// What the network card's cable leads to. A switch joins machines of one process: those of one window, or of one
    /// `vitrine run A B`.
    #[arg(long, value_name = "nat|none|switch:NAME|tap:NAME")]
    pub network: Option<Network>,
    /// Which network card.
    #[arg(long, value_name = "e1000|virtio|ne2000|ne2000-isa")]
    pub nic: Option<Nic>,
    /// Sound devices, with commas between them.
    #[arg(long, value_name = "none|speaker,ac97,sb16,virtio")]
    pub sound: Option<SoundCards>,
    /// Where sound goes; by default to the host's sound device if there is a window.
    #[arg(long, value_name = "host|none|wav:PATH")]
    pub audio: Option<Audio>,
    /// Lead a port of this host to one of the guest: tcp:2222:22, udp:0.0.0.0:5353:53; may be repeated.
    #[arg(long, value_name = "tcp|udp:[ADDRESS:]HOSTPORT:GUESTPORT")]
    pub forward: Vec<Forward>,
    /// Let the guest reach this host's loopback at its gateway's address, 10.0.2.2.
    #[arg(long)]
    pub host_loopback: bool,
    /// Kernel: bzImage, multiboot or ELF.
    #[arg(long, value_name = "F")]
    pub kernel: Option<PathBuf>,
    /// Initial ramdisk of the kernel, or its first multiboot module.
    #[arg(long, value_name = "F")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub append: Option<String>,
    /// Memory to begin with, if that is less than --memory: the guest's balloon is asked to hold the rest.
    #[arg(long, value_name = "SIZE")]
    pub memory_now: Option<Size>,
    /// What is never taken of the machine's memory while it runs; a quarter, if not said otherwise.
    #[arg(long, value_name = "SIZE")]
    pub memory_floor: Option<Size>,
    /// Most accesses to its disks, per second.
    #[arg(long, value_name = "N")]
    pub disk_iops: Option<u32>,
    /// Most data read from and written to its disks, per second, for example 20M.
    #[arg(long, value_name = "SIZE")]
    pub disk_rate: Option<Size>,
    /// Most data to and from the network, per second and direction, for example 2M.
    #[arg(long, value_name = "SIZE")]
    pub network_rate: Option<Size>,
    /// Writes to disks go to an overlay that is thrown away.
    #[arg(long)]
    pub snapshot: bool,
    /// Count time in instructions, on the software CPU: the same input gives the same run.
    #[arg(long)]
    pub deterministic: bool,
    /// Give it an HPET beside the older timers; systems that know one use it in their place.
    #[arg(long)]
    pub hpet: bool,
    /// Writing VALUE to port 0xF4 ends the run with status (VALUE<<1)|1; and the machine has the test device
    /// that the kvm-unit-tests use.
    #[arg(long)]
    pub debug_exit: bool,
}

/// `vitrine run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// A file (told by its content), a saved machine, or a built-in guest. With --headless there may be several: they
    /// run in one process, share its workers and the options, and files written get the machine's name in theirs.
    #[arg(value_name = "FILE|NAME", required_unless_present_any = ["cdrom", "disk", "floppy", "kernel"])]
    pub targets: Vec<PathBuf>,
    #[command(flatten)]
    pub machine: MachineArguments,
    /// Continue from this snapshot of the machine.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "fresh")]
    pub resume: Option<String>,
    /// Start anew, and give up the state the machine was suspended in.
    #[arg(long)]
    pub fresh: bool,
    /// When the run is ended from outside (window closed, Ctrl-C, SIGTERM, time over), save the machine: its next
    /// start continues it. A saved machine in a window does so without being asked.
    #[arg(long)]
    pub suspend_on_quit: bool,
    /// No window.
    #[arg(long)]
    pub headless: bool,
    /// Threads that run virtual CPUs; as many as the host has CPUs, if not said otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// How much of the host's memory and processors may be granted to machines, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(10..=1000))]
    pub overcommit: Option<u32>,
    /// Where the first serial port goes.
    #[arg(long, value_name = "stdio|file:PATH|none", value_parser = serial, default_value = "none")]
    pub serial: Serial,
    /// File for what the guest writes to ports 0x402 and 0xE9.
    #[arg(long, value_name = "PATH")]
    pub debugcon: Option<PathBuf>,
    /// End with success as soon as this text comes from the serial port.
    #[arg(long, value_name = "TEXT", value_parser = awaited, allow_hyphen_values = true)]
    pub until_serial: Option<String>,
    /// End with success as soon as this text stands on the screen (text modes).
    #[arg(long, value_name = "TEXT", value_parser = awaited, allow_hyphen_values = true)]
    pub until_screen: Option<String>,
    /// End with status 3 after this many seconds, with the last screen on stderr.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<f64>,
    /// Write the screen to this PNG when the run ends.
    #[arg(long, value_name = "PATH.png")]
    pub screenshot: Option<PathBuf>,
    /// Play this script: wait for texts, type, click, take pictures.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Write what passes over the network card's cable to this pcap file.
    #[arg(long, value_name = "PATH.pcap")]
    pub capture: Option<PathBuf>,
    /// Serve gdb there (only this host reaches it, unless another address is named; port 0: any that is free).
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen)]
    pub gdb: Option<SocketAddr>,
    /// Tell gdb that the target is an i386: for 32-bit guests that a 64-bit gdb would disassemble wrongly.
    #[arg(long, requires = "gdb")]
    pub gdb_i386: bool,
    /// Stand still before the first instruction, until `vitrine ctl resume`, `step`, or gdb lets it go on.
    #[arg(long)]
    pub paused: bool,
    /// Keep the past of a deterministic machine, in this many MiB of memory, so that one can step back.
    #[arg(long, value_name = "MIB", num_args = 0..=1, default_missing_value = "256", requires = "deterministic")]
    pub history: Option<u64>,
    /// Write counters and times to this JSON file when the run ends.
    #[arg(long, value_name = "PATH.json")]
    pub stats: Option<PathBuf>,
}

/// Where the first serial port goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serial {
    /// Nowhere.
    None,
    /// The terminal.
    Stdio,
    /// This file.
    File(PathBuf),
}

fn firmware(text: &str) -> Result<Firmware, String> {
    match text {
        "" => Err("write a path, or none".to_owned()),
        "none" => Ok(Firmware::None),
        "auto" => Ok(Firmware::Auto),
        path => Ok(Firmware::Image(path.into())),
    }
}

fn serial(text: &str) -> Result<Serial, String> {
    match text {
        "none" => Ok(Serial::None),
        "stdio" => Ok(Serial::Stdio),
        _ => match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(Serial::File(path.into())),
            _ => Err("write stdio, file:PATH or none".to_owned()),
        },
    }
}

/// A place to listen at: a port of this host alone, or one of an address.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text
        .trim_start_matches(':')
        .parse()
        .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    port.or_else(|_| text.parse()).map_err(|_| "write a port, or ADDRESS:PORT, for example 1234".to_owned())
}

fn awaited(text: &str) -> Result<String, String> {
    match text {
        "" => Err("an empty text is always there; name the text to wait for".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e9 => Ok(seconds),
        _ => Err("write a number of seconds above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(line: &str) -> Result<Box<RunArguments>, clap::Error> {
        match Arguments::try_parse_from(line.split(' '))?.command {
            Some(Command::Run(run)) => Ok(run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_option_of_run_is_understood() {
        let run =
            run("vitrine run a.iso --backend soft --interrupts split --memory 64M --cpus 2 --firmware none \
             --cdrom c --disk d --disk e --disk-bus virtio --floppy f --kernel k --initrd i --append -x --snapshot --headless \
             --serial file:s --debugcon g --debug-exit --until-serial T --until-screen U --timeout 1.5 \
             --screenshot p.png --script q --stats r.json --deterministic --network tap:t0 --nic e1000 \
             --forward tcp:2222:22 --forward udp:5353:53 --host-loopback --capture v.pcap --sound speaker,ac97 --audio wav:w.wav \
             --gdb 1234 --gdb-i386 --paused --history --hpet"
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .as_str())
            .unwrap();
        assert_eq!(run.machine.backend, Some(Backend::Soft));
        assert_eq!(run.machine.interrupts, Some(InterruptMode::Split));
        assert_eq!(run.machine.memory, Some(Size::mib(64)));
        assert_eq!(run.machine.firmware, Some(Firmware::None));
        assert_eq!(run.machine.disk.len(), 2);
        assert_eq!(run.machine.disk_bus, Some(DiskBus::Virtio));
        assert_eq!(run.machine.append.as_deref(), Some("-x"));
        assert_eq!(run.serial, Serial::File("s".into()));
        assert_eq!(run.timeout, Some(1.5));
        assert!(run.headless && run.machine.snapshot && run.machine.debug_exit && run.machine.deterministic);
        assert_eq!(run.machine.network, Some(Network::Tap("t0".into())));
        assert_eq!(run.machine.forward.len(), 2);
        assert_eq!(run.machine.sound, Some(SoundCards::default()));
        assert_eq!(run.machine.audio, Some(Audio::Wav("w.wav".into())));
        assert_eq!(run.gdb, Some("127.0.0.1:1234".parse().unwrap()));
        assert!(run.gdb_i386 && run.paused && run.history == Some(256) && run.machine.hpet);
    }

    #[test]
    fn something_to_run_must_be_named() {
        assert!(run("vitrine run --headless").is_err());
        assert!(run("vitrine run --cdrom x.iso").is_ok());
    }

    #[test]
    fn impossible_words_are_usage_errors() {
        for line in [
            "--backend xen",
            "--network wifi",
            "--forward tcp:1",
            "--disk-bus scsi",
            "--sound trumpet",
            "--audio loud",
            "--timeout 0",
            "--timeout x",
            "--serial tcp:1",
            "--gdb here",
            "--history",
            "--memory much",
            "--cpus -1",
        ] {
            assert_eq!(run(&format!("vitrine run a {line}")).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
