//! What can be asked of a machine from outside, as the command line and the socket spell it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::debug::{BreakAction, StepArguments, SymbolsAction};
use super::gdb::GdbAction;
use super::parts::{Cable, CaptureTo};
use super::saved::SnapshotRequest;

/// `vitrine ctl`.
#[derive(Args, Debug)]
#[command(subcommand_precedence_over_arg = true)]
pub struct ControlArguments {
    /// The machine; needed when several run.
    #[arg(value_name = "NAME")]
    pub machine: Option<String>,
    /// Answers as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Ask again, this many times a second, until interrupted.
    #[arg(long, global = true, value_name = "HZ", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub watch: Option<u32>,
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Every machine that runs, with what it is doing and what it uses.
    List,
    /// What the machine is doing and what it uses.
    Status,
    /// Stop its time.
    Pause,
    /// Let its time go on.
    Resume,
    /// The reset button.
    Reset,
    /// Pull the plug.
    Poweroff,
    /// The power button: a guest with ACPI then shuts down by itself.
    PowerButton,
    /// The registers of a virtual CPU, and what they mean.
    Registers {
        /// Which virtual CPU.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
        /// Of every virtual CPU (with --json: of every machine of this process when no NAME is given).
        #[arg(long)]
        #[serde(default)]
        all: bool,
        /// Every bit of the control registers and flags in words.
        #[arg(long)]
        #[serde(default)]
        explain: bool,
        /// Keep all registers under this name, to compare them later.
        #[arg(long, value_name = "MOMENT")]
        #[serde(default)]
        keep: Option<String>,
        /// What differs: between a kept moment and now, or between two of MACHINE[:CPU] or MOMENT[:CPU].
        #[arg(long, value_name = "STATE", num_args = 1..=2)]
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        compare: Vec<String>,
        /// Those kept under this name.
        #[arg(skip)]
        #[serde(default)]
        kept: Option<String>,
        /// With `all`: no text is wanted, which costs more to make than the rest. Set by `ctl --json`.
        #[arg(skip)]
        #[serde(default)]
        only_json: bool,
    },
    /// Change something: a register of a paused machine (rip=0x1000), shares=N, cap=PERCENT|none,
    /// reservation=PERCENT, quantum=MILLISECONDS, time=RATE, ticks=merge|replay, memory=SIZE, floor=SIZE, disk-iops=N|none,
    /// disk-rate=SIZE|none, network-rate=SIZE|none, network-latency=MILLISECONDS,
    /// network-jitter=MILLISECONDS, network-loss=PERCENT, volume=PERCENT, mute=on|off; of the host: overcommit=PERCENT, host-disk-iops=N|none,
    /// host-disk-rate=SIZE|none, host-network-rate=SIZE|none.
    Set {
        /// What, and its new value.
        #[arg(value_name = "KEY=VALUE", required = true)]
        changes: Vec<String>,
        /// Whose registers.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
    },
    /// Bytes of memory at a linear address.
    Memory {
        /// Where.
        #[arg(value_name = "ADDRESS", value_parser = number)]
        address: u64,
        /// How many bytes.
        #[arg(value_name = "BYTES", value_parser = number, default_value = "256")]
        bytes: u64,
        /// The address is guest-physical.
        #[arg(long)]
        #[serde(default)]
        physical: bool,
        /// Whose page tables.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
    },
    /// Write bytes (hexadecimal) to guest-physical memory of a paused machine.
    Write {
        /// Where.
        #[arg(value_name = "ADDRESS", value_parser = number)]
        address: u64,
        /// What, for example 90f4.
        #[arg(value_name = "HEX")]
        bytes: String,
        /// The address is linear, by this CPU's page tables.
        #[arg(long, value_name = "CPU", num_args = 0..=1, default_missing_value = "0")]
        #[serde(default)]
        linear: Option<usize>,
    },
    /// Look for bytes in memory; tells where they begin.
    Find {
        /// Hexadecimal, for example '55 aa', or a text in double quotes.
        #[arg(value_name = "HEX|\"TEXT\"")]
        wanted: String,
        /// From there on, over 256 MiB.
        #[arg(long, value_name = "ADDRESS", value_parser = number, default_value = "0")]
        from: u64,
        /// The address is guest-physical.
        #[arg(long)]
        #[serde(default)]
        physical: bool,
        /// Whose page tables.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
    },
    /// Instructions from RIP, or from an offset of the code segment.
    Disassemble {
        /// From where.
        #[arg(value_name = "OFFSET|NAME")]
        offset: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 16)]
        #[serde(default = "sixteen")]
        count: usize,
        /// In whose mode.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
    },
    /// Stop where you want: at an instruction, an access, a port, an interrupt, an exception, a mode change, a
    /// timer's tick. See `break add --help`.
    Break {
        /// What to do.
        #[command(subcommand)]
        action: BreakAction,
    },
    /// Make steps, from where the paused machine stands: into, over, out, or backwards.
    Step(StepArguments),
    /// Go on, and wait for the next stop.
    Continue {
        /// Back to the last time a condition was met (machines run with --deterministic --history).
        #[arg(long)]
        #[serde(default)]
        back: bool,
        /// Seconds to wait for it.
        #[arg(long, value_name = "SECONDS", default_value_t = 10)]
        #[serde(default = "super::debug::ten")]
        wait: u64,
    },
    /// Go on until an instruction is next: an address, or a symbol with or without +OFFSET.
    Until {
        /// Where.
        #[arg(value_name = "ADDRESS|NAME")]
        place: String,
        /// Which virtual CPU.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
        /// Seconds to wait for it.
        #[arg(long, value_name = "SECONDS", default_value_t = 10)]
        #[serde(default = "super::debug::ten")]
        wait: u64,
    },
    /// Keep the past of a deterministic machine from here on, so that one can go back to it.
    History {
        /// on or off.
        #[arg(value_name = "on|off", value_parser = on_or_off, action = clap::ArgAction::Set)]
        on: bool,
        /// Memory for it, in MiB.
        #[arg(long, value_name = "MIB", default_value_t = 256)]
        #[serde(default = "mebibytes_of_history")]
        memory: u64,
    },
    /// Names of addresses: load vmlinux, or a System.map.
    Symbols {
        /// What to do.
        #[command(subcommand)]
        action: SymbolsAction,
    },
    /// Who called: frames by RBP, and the words on the stack with their names.
    Stack {
        /// Which virtual CPU.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
        /// How many words.
        #[arg(long, default_value_t = 16)]
        #[serde(default = "sixteen")]
        words: usize,
    },
    /// Serve gdb: `gdb start`, then `target remote :PORT` in gdb.
    Gdb {
        /// What to do.
        #[command(subcommand)]
        action: GdbAction,
    },
    /// From a linear address to the physical and the host's, with every table on the way.
    Translate {
        /// The linear address.
        #[arg(value_name = "ADDRESS", value_parser = number)]
        address: u64,
        /// Whose page tables.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
    },
    /// A descriptor table in words.
    Table {
        /// Which.
        table: Table,
        /// Whose.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
    },
    /// Traps by kind, port and device.
    Exits,
    /// The guest's timers and the host's.
    Timers,
    /// Everything the machine says to its devices, as sentences: switch it on, look, export.
    Trace {
        /// What with it.
        #[command(subcommand)]
        act: TraceAct,
    },
    /// Save the machine in a snapshot, list those there are, and put it back.
    Snapshot {
        /// What to do.
        #[command(subcommand)]
        what: SnapshotRequest,
    },
    /// Save the machine and switch it off; its next start continues it.
    Suspend,
    /// The drives whose media can be changed, with what is in them.
    Drives,
    /// Put an image (for the CD drive, also a folder) into a drive.
    Insert {
        /// cdrom or floppy.
        drive: String,
        /// The image.
        file: PathBuf,
    },
    /// Take out what is in a drive.
    Eject {
        /// cdrom or floppy.
        drive: String,
    },
    /// Plug the network cable in, or out.
    Cable {
        /// on or off.
        state: Cable,
    },
    /// Write what passes over the network cable to a pcap file from now on, or no more.
    Capture {
        /// The file, or off.
        #[arg(value_name = "FILE.pcap|off")]
        to: CaptureTo,
    },
    /// How loud the machine is, and where its sound goes.
    Sound {
        /// Percent.
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(..=100))]
        volume: Option<u32>,
        /// on: nothing is heard.
        #[arg(long, value_name = "on|off", value_parser = on_or_off)]
        mute: Option<bool>,
        /// Of this source alone.
        #[arg(long)]
        source: Option<String>,
    },
    /// What each device has done, and how long it took.
    Devices,
    /// The screen as text.
    Screen,
    /// Write the screen as a PNG.
    Screenshot {
        /// The file.
        path: PathBuf,
    },
    /// Type text on the keyboard; \n is Enter.
    Type {
        /// What.
        text: String,
    },
    /// Move the mouse, and click; with --at, the pointer of a guest that has one with absolute coordinates.
    #[command(allow_negative_numbers = true)]
    Mouse {
        /// To the right.
        x: i32,
        /// Down.
        y: i32,
        /// Where, in 32,768ths of the screen, instead of how far.
        #[arg(long)]
        #[serde(default)]
        at: bool,
        /// Notches of the wheel, towards the user.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        wheel: i32,
        /// Press and release this button there.
        #[arg(long, value_name = "left|right|middle")]
        #[serde(default)]
        click: Option<Button>,
    },
    /// Press keys together, for example ctrl-alt-delete.
    Keys {
        /// Which.
        keys: String,
    },
    /// Move memory, processor shares or a rate from one running machine to another, and tell how it goes.
    Move {
        /// What.
        what: Movable,
        /// How much: 128M of memory, 100 shares, a rate of 10M (bytes per second) or 500iops (disk accesses per
        /// second).
        amount: String,
        #[arg(value_name = "from", value_parser = ["from"], hide_possible_values = true)]
        #[serde(default, skip)]
        from: String,
        /// The machine that gives.
        #[arg(value_name = "DONOR")]
        donor: String,
        #[arg(value_name = "to", value_parser = ["to"], hide_possible_values = true)]
        #[serde(default, skip)]
        to: String,
        /// The machine that gets.
        #[arg(value_name = "RECEIVER")]
        receiver: String,
    },
    /// The latest transfers between machines, with what became of them.
    Moves,
    /// Take a transfer that is done back.
    Undo {
        /// Its number.
        #[arg(value_name = "N")]
        number: u64,
    },
    /// Call a memory transfer off that is under way.
    Cancel {
        /// Its number.
        #[arg(value_name = "N")]
        number: u64,
    },
    /// The policy that balances memory and shares by need.
    Policy {
        /// Switch it, or see its decisions.
        #[arg(value_name = "on|off|status", default_value = "status")]
        what: Switch,
    },
    /// The host's ledger: what is granted, used and free, and each machine's memory in three numbers.
    Ledger,
    /// Send text to the first serial port, or to virtio's console; \n is a line's end.
    Serial {
        /// What.
        text: String,
        /// To virtio's console.
        #[arg(long)]
        #[serde(default)]
        console: bool,
    },
}

/// What can be done with a trace.
#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceAct {
    /// Take every access, interrupt, timer edge and slice from now on.
    On,
    /// Take no more; what was taken stays.
    Off,
    /// Forget what was taken.
    Clear,
    /// Whether it is on, and what it holds.
    Status,
    /// The latest lines.
    Tail {
        /// How many.
        #[arg(long, short = 'n', default_value_t = 40)]
        #[serde(default = "forty")]
        count: usize,
        #[command(flatten)]
        #[serde(flatten)]
        filter: TraceFilter,
    },
    /// Write it for Perfetto (ui.perfetto.dev) or chrome://tracing, as JSON.
    Export {
        /// The file.
        path: PathBuf,
        #[command(flatten)]
        #[serde(flatten)]
        filter: TraceFilter,
    },
}

fn mebibytes_of_history() -> u64 {
    256
}

fn sixteen() -> usize {
    16
}

fn forty() -> usize {
    40
}

/// Which lines of a trace.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceFilter {
    /// Only of this device or chip.
    #[arg(long)]
    pub device: Option<String>,
    /// Only accesses to these addresses, for example 0x3f8-0x3ff.
    #[arg(long)]
    pub range: Option<String>,
    /// Only lines with this text.
    #[arg(long)]
    pub text: Option<String>,
    /// No interrupts, timer edges, slices: only what the guest says to devices.
    #[arg(long)]
    pub accesses_only: bool,
}

/// On, off, or just a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// Switch it on.
    On,
    /// Switch it off.
    Off,
    /// Look at it.
    #[default]
    Status,
}

/// A button of the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Button {
    /// Bit 0.
    Left,
    /// Bit 1.
    Right,
    /// Bit 2.
    Middle,
}

/// What can move from one machine to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Movable {
    /// By the balloons.
    Memory,
    /// Processor shares.
    Shares,
    /// Bound on the disks' data or accesses.
    Disk,
    /// Bound on the network's data.
    Network,
}

/// A table in the guest's memory that the processor reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// Global descriptor table.
    Gdt,
    /// Local descriptor table.
    Ldt,
    /// Interrupt descriptor table.
    Idt,
    /// Task-state segment.
    Tss,
}

impl Command {
    /// [`Command::Registers`] as they are.
    pub fn registers(cpu: usize, all: bool, explain: bool) -> Command {
        let (keep, compare, kept) = (None, Vec::new(), None);
        Command::Registers { cpu, all, explain, keep, compare, kept, only_json: false }
    }
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

/// A number as people write addresses: 0x for hexadecimal, else decimal.
pub fn number(text: &str) -> Result<u64, String> {
    engine::debugger::words::number(text)
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
