//! What can be asked of a machine from outside, as the command line and the socket spell it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

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
    },
    /// Change something: a register of a paused machine (rip=0x1000), shares=N, cap=PERCENT|none,
    /// reservation=PERCENT, quantum=MILLISECONDS, time=RATE, ticks=merge|replay, memory=SIZE, floor=SIZE, disk-iops=N|none,
    /// disk-rate=SIZE|none, network-rate=SIZE|none, volume=PERCENT, mute=on|off; of the host: overcommit=PERCENT, host-disk-iops=N|none,
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
    },
    /// Instructions from RIP, or from an offset of the code segment.
    Disassemble {
        /// From where.
        #[arg(value_name = "OFFSET", value_parser = number)]
        offset: Option<u64>,
        /// How many.
        #[arg(long, default_value_t = 16)]
        #[serde(default)]
        count: usize,
        /// In whose mode.
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        cpu: usize,
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
    /// Send text to the first serial port; \n is a line's end.
    Serial {
        /// What.
        text: String,
    },
}

impl Command {
    /// As it is written behind `vitrine ctl NAME`; `None` for what the window never asks for.
    pub fn words(&self) -> Option<String> {
        let cpu = |cpu: &usize| if *cpu == 0 { String::new() } else { format!(" --cpu {cpu}") };
        Some(match self {
            Command::Set { changes, cpu: of } => format!("set {}{}", changes.join(" "), cpu(of)),
            Command::Write { address, bytes } => format!("write {address:#x} '{bytes}'"),
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

/// A number as people write addresses: 0x for hexadecimal, else decimal.
pub fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is no number; write for example 0x7c00 or 512"))
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
        assert_eq!(named.command, Command::Registers { cpu: 0, all: true, explain: false });
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
        assert_eq!(command, Command::Registers { cpu: 0, all: false, explain: false });
        assert_eq!(serde_json::from_str::<Command>("\"pause\"").unwrap(), Command::Pause);
    }
}
