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

impl Command {
    /// Whether it only asks: then it can be asked again and again.
    pub fn is_question(&self) -> bool {
        match self {
            Command::List
            | Command::Status
            | Command::Memory { .. }
            | Command::Find { .. }
            | Command::Disassemble { .. }
            | Command::Stack { .. }
            | Command::Translate { .. }
            | Command::Table { .. }
            | Command::Exits
            | Command::Timers
            | Command::Drives
            | Command::Devices
            | Command::Screen
            | Command::Moves
            | Command::Ledger => true,
            Command::Registers { keep, .. } => keep.is_none(),
            Command::Sound { volume, mute, .. } => volume.is_none() && mute.is_none(),
            Command::Policy { what } => *what == Switch::Status,
            Command::Trace { act } => matches!(act, TraceAct::Status | TraceAct::Tail { .. }),
            Command::Break { action } => matches!(action, BreakAction::List),
            _ => false,
        }
    }

    /// Whether it may wait for a machine, or a file: nothing for the thread of a window.
    pub fn may_wait(&self) -> bool {
        matches!(
            self,
            Command::Break { .. }
                | Command::Step(_)
                | Command::Continue { .. }
                | Command::Until { .. }
                | Command::History { .. }
                | Command::Symbols { .. }
                | Command::Insert { .. }
                | Command::Eject { .. }
        )
    }

    /// As it is written behind `vitrine ctl NAME`; `None` for what the window never asks for.
    pub fn words(&self) -> Option<String> {
        let cpu = |cpu: &usize| if *cpu == 0 { String::new() } else { format!(" --cpu {cpu}") };
        Some(match self {
            Command::Set { changes, cpu: of } => format!("set {}{}", changes.join(" "), cpu(of)),
            Command::Snapshot { what } => format!("snapshot {}", what.words()),
            Command::Suspend => "suspend".to_owned(),
            Command::Insert { drive, file } => format!("insert {drive} '{}'", file.display()),
            Command::Eject { drive } => format!("eject {drive}"),
            Command::Sound { volume, mute, source } => {
                let volume = volume.map(|percent| format!(" --volume {percent}")).unwrap_or_default();
                let mute =
                    mute.map(|on| format!(" --mute {}", if on { "on" } else { "off" })).unwrap_or_default();
                let source = source.as_ref().map(|name| format!(" --source {name}")).unwrap_or_default();
                format!("sound{volume}{mute}{source}")
            }
            Command::Cable { state } => format!("cable {}", state.word()),
            Command::Write { address, bytes, linear } => {
                let linear = match linear {
                    None => String::new(),
                    Some(0) => " --linear".to_owned(),
                    Some(of) => format!(" --linear {of}"),
                };
                format!("write {address:#x} '{bytes}'{linear}")
            }
            Command::Break { action } => format!("break {}", action.words()?),
            Command::Step(arguments) => format!("step{}", arguments.words()),
            Command::Continue { back: true, .. } => "continue --back".to_owned(),
            Command::Until { place, cpu: of, .. } => format!("until {place}{}", cpu(of)),
            Command::History { on, .. } => format!("history {}", if *on { "on" } else { "off" }),
            Command::Symbols { action: SymbolsAction::Load { path } } => {
                format!("symbols load '{}'", path.display())
            }
            Command::Symbols { action: SymbolsAction::Clear } => "symbols clear".to_owned(),
            _ => return None,
        })
    }
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
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        control: ControlArguments,
    }

    fn parse(words: &[&str]) -> ControlArguments {
        Line::try_parse_from(std::iter::once(&"ctl").chain(words)).map(|line| line.control).unwrap()
    }

    #[test]
    fn a_name_may_stand_before_the_command() {
        assert_eq!(parse(&["status"]).machine, None);
        let named = parse(&["mine", "registers", "--all", "--json"]);
        assert_eq!((named.machine.as_deref(), named.json), (Some("mine"), true));
        assert_eq!(named.command, Command::registers(0, true, false));
        assert_eq!(parse(&["registers", "--watch"]).watch, Some(2));
    }

    #[test]
    fn a_move_reads_like_a_sentence() {
        let moved = parse(&["move", "memory", "128M", "from", "A", "to", "B"]).command;
        let Command::Move { what, amount, donor, receiver, .. } = &moved else { panic!("{moved:?}") };
        assert_eq!((*what, &amount[..], &donor[..], &receiver[..]), (Movable::Memory, "128M", "A", "B"));
        let words = ["ctl", "move", "memory", "128M", "to", "A", "from", "B"];
        assert!(Line::try_parse_from(words).is_err());
        let program = r#"{"move":{"what":"shares","amount":"100","donor":"A","receiver":"B"}}"#;
        assert!(matches!(serde_json::from_str(program), Ok(Command::Move { what: Movable::Shares, .. })));
    }

    #[test]
    fn what_the_window_shows_is_read_back_as_what_it_did() {
        let add = |text: &str, ignore| {
            let condition = text.split(' ').map(str::to_owned).collect();
            Command::Break { action: BreakAction::Add { condition, ignore } }
        };
        let steps = StepArguments::into(1, 100);
        for command in [
            add("exception #PF error 0x2", 0),
            add("port 0x40-0x43 access", 3),
            Command::Break { action: BreakAction::Remove { id: Some(4) } },
            Command::Step(StepArguments { over: true, ..steps.clone() }),
            Command::Step(StepArguments { back: true, count: 1, ..steps }),
            Command::Continue { back: true, wait: 10 },
            Command::History { on: true, memory: 256 },
            Command::Symbols { action: SymbolsAction::Load { path: "vmlinux".into() } },
        ] {
            let written = command.words().unwrap().replace('\'', "");
            let words: Vec<&str> = written.split(' ').collect();
            assert_eq!(parse(&words).command, command, "{written}");
        }
    }

    #[test]
    fn conditions_and_steps_are_written_as_words() {
        let add = parse(&["mine", "break", "add", "data", "0x500", "2", "write", "--ignore", "5"]).command;
        let condition = ["data", "0x500", "2", "write"].map(str::to_owned).to_vec();
        assert_eq!(add, Command::Break { action: BreakAction::Add { condition, ignore: 5 } });
        let Command::Step(step) = parse(&["step", "7", "--back"]).command else { panic!() };
        assert_eq!((step.count, step.back, step.over, step.wait), (7, true, false, 10));
        let Command::Registers { compare, .. } = parse(&["registers", "--compare", "a:1", "b"]).command
        else {
            panic!()
        };
        assert_eq!(compare, ["a:1", "b"]);
        assert_eq!(serde_json::from_str::<Command>(r#"{"step":{}}"#).unwrap(), parse(&["step"]).command);
        let code = serde_json::from_str::<Command>(r#"{"disassemble":{"offset":null}}"#).unwrap();
        assert_eq!(code, parse(&["disassemble"]).command, "a program gets as much as a person");
    }

    #[test]
    fn addresses_are_hexadecimal_or_decimal() {
        let memory = parse(&["memory", "0x7c00", "512"]).command;
        assert_eq!(memory, Command::Memory { address: 0x7C00, bytes: 512, physical: false, cpu: 0 });
        assert!(number("seven").is_err());
        assert_eq!(number("0xFFFF_0000"), Ok(0xFFFF_0000));
    }

    #[test]
    fn a_trace_is_asked_for_in_words() {
        let tail = parse(&["mine", "trace", "tail", "-n", "5", "--device", "8254"]).command;
        let filter = TraceFilter { device: Some("8254".into()), ..TraceFilter::default() };
        assert_eq!(tail, Command::Trace { act: TraceAct::Tail { count: 5, filter } });
        let short: Command = serde_json::from_str(r#"{"trace":{"act":{"tail":{}}}}"#).unwrap();
        let filter = TraceFilter::default();
        assert_eq!(short, Command::Trace { act: TraceAct::Tail { count: 40, filter } });
    }

    #[test]
    fn a_request_needs_no_more_than_what_matters() {
        let command: Command = serde_json::from_str(r#"{"registers":{}}"#).unwrap();
        assert_eq!(command, Command::registers(0, false, false));
        assert_eq!(serde_json::from_str::<Command>("\"pause\"").unwrap(), Command::Pause);
    }
}
