//! Stopping where one wants, from outside: conditions, steps, symbols, the stack, registers compared, gdb.

use std::fmt::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use cpu::Registers;
use engine::Session;
use engine::debugger::{Condition, Goal, HistoryLimits, Stopped, words};
use engine::inspect::compare::differences;
use engine::inspect::symbols::Symbols;
use engine::inspect::{code, stack};
use engine::session::{Others, Way};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Answer;
use super::command::number;
use super::execute::latest;
use crate::running::Running;

/// Longest file of symbols, in bytes.
const MOST_SYMBOL_BYTES: u64 = 1 << 30;

/// What `break --help` ends with.
const BREAK_HELP: &str = "Examples:
  break add execute 0x7c00            before the instruction there
  break add execute start_kernel+4    by name, after `symbols load vmlinux`
  break add data 0x500 2 write        after an instruction wrote any of these linear bytes
  break add physical 0xb8000 4000     the same by guest-physical address, RAM or a device's
  break add port 0x60-0x64 read       after IN from the keyboard controller
  break add interrupt 8 hardware      at the handler, once IRQ 0 was delivered as vector 8
  break add exception #PF error 2     at the handler of a page fault with this error code
  break add mode long                 once long mode is on
  break add timer 8254 channel 0      at the next tick of a timer that `timers` shows
  break add exit halt                 at the next HLT with nothing to do
  break add execute 0x7c00 --ignore 5 at the sixth time";

/// What `step --help` ends with.
const STEP_HELP: &str = "A step is what the processor does next: an instruction, or the delivery of an interrupt that is due (you are \
then at the first instruction of its handler). --over and --out run through calls, INT n, REP and interrupt handlers. \
The other virtual CPUs stand still meanwhile, unless --others; in a deterministic machine they always take their turns.
Examples:
  step            one instruction
  step 100        a hundred
  step --over     the whole call
  step --out      to where this function was called
  step --back     the previous instruction (machines run with --deterministic --history)";

/// `vitrine ctl break`.
#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakAction {
    /// Add a condition; gives its number.
    #[command(after_help = BREAK_HELP)]
    Add {
        /// The condition, for example execute 0x7c00.
        #[arg(value_name = "CONDITION", required = true, num_args = 1..)]
        condition: Vec<String>,
        /// Do not stop the first so many times.
        #[arg(long, value_name = "TIMES", default_value_t = 0)]
        #[serde(default)]
        ignore: u64,
    },
    /// Every condition, with how often it was met.
    List,
    /// Remove a condition, or all.
    Remove {
        /// Its number; all.
        id: Option<u32>,
    },
    /// Turn a condition on, or all.
    Enable {
        /// Its number; all.
        id: Option<u32>,
    },
    /// Turn a condition off, or all; it stays in the list.
    Disable {
        /// Its number; all.
        id: Option<u32>,
    },
}

/// `vitrine ctl step`.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[command(after_help = STEP_HELP)]
pub struct StepArguments {
    /// How many.
    #[arg(value_name = "N", default_value_t = 1)]
    #[serde(default = "one")]
    pub count: u64,
    /// Over calls, INT n, REP and interrupts.
    #[arg(long, conflicts_with_all = ["out", "back"])]
    #[serde(default)]
    pub over: bool,
    /// Out of this function.
    #[arg(long, conflicts_with = "back")]
    #[serde(default)]
    pub out: bool,
    /// Backwards.
    #[arg(long)]
    #[serde(default)]
    pub back: bool,
    /// Which virtual CPU.
    #[arg(long, default_value_t = 0)]
    #[serde(default)]
    pub cpu: usize,
    /// The other virtual CPUs go on meanwhile.
    #[arg(long)]
    #[serde(default)]
    pub others: bool,
    /// Seconds to wait for it.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[serde(default = "ten")]
    pub wait: u64,
}

impl BreakAction {
    /// As it is written behind `ctl break`, for a shell.
    pub fn words(&self) -> Option<String> {
        let of = |id: &Option<u32>| id.map_or(String::new(), |id| format!(" {id}"));
        Some(match self {
            BreakAction::Add { condition, ignore } => {
                // A shell takes # for the beginning of a comment.
                let quoted = |word: &String| match word.starts_with('#') {
                    true => format!("'{word}'"),
                    false => word.clone(),
                };
                let condition: Vec<String> = condition.iter().map(quoted).collect();
                let ignore = if *ignore > 0 { format!(" --ignore {ignore}") } else { String::new() };
                format!("add {}{ignore}", condition.join(" "))
            }
            BreakAction::Remove { id } => format!("remove{}", of(id)),
            BreakAction::Enable { id } => format!("enable{}", of(id)),
            BreakAction::Disable { id } => format!("disable{}", of(id)),
            BreakAction::List => return None,
        })
    }
}

impl StepArguments {
    /// So many steps of a virtual CPU, into what they lead to.
    pub fn into(cpu: usize, count: u64) -> StepArguments {
        StepArguments { count, over: false, out: false, back: false, cpu, others: false, wait: ten() }
    }

    /// As they are written behind `ctl step`.
    pub fn words(&self) -> String {
        let mut words = if self.count == 1 { String::new() } else { format!(" {}", self.count) };
        for (is_so, word) in
            [(self.over, " --over"), (self.out, " --out"), (self.back, " --back"), (self.others, " --others")]
        {
            words.push_str(if is_so { word } else { "" });
        }
        if self.cpu > 0 {
            words.push_str(&format!(" --cpu {}", self.cpu));
        }
        words
    }
}

fn one() -> u64 {
    1
}

/// Seconds to wait for a stop.
pub fn ten() -> u64 {
    10
}

/// `vitrine ctl symbols`.
#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SymbolsAction {
    /// Read names of addresses from an ELF file, or from a list of `address name` as System.map is one.
    Load {
        /// The file.
        path: std::path::PathBuf,
    },
    /// Forget them.
    Clear,
    /// The name of an address, or the address of a name.
    Find {
        /// For example 0xffffffff81000000, or start_kernel+4.
        place: String,
    },
}

/// The session of a machine that can be debugged.
pub fn session(machine: &dyn Running) -> Result<&Session, String> {
    machine.session().ok_or_else(|| "this machine cannot be debugged".to_owned())
}

/// Changes or lists conditions.
pub fn conditions(machine: &dyn Running, action: &BreakAction) -> Result<Answer, String> {
    let session = session(machine)?;
    let told = |error: engine::session::EditError| error.to_string();
    match action {
        BreakAction::Add { condition, ignore } => {
            let symbols = session.symbols();
            let words: Vec<&str> = condition.iter().flat_map(|word| word.split_whitespace()).collect();
            let condition = words::condition(&words, &|place| symbols.address_of(place))?;
            let text = named(&condition, &symbols);
            let id = session.add_condition(condition, *ignore).map_err(told)?;
            Answer::new(format!("condition {id}: {text}"), json!({ "id": id }))
        }
        BreakAction::List => {
            let (all, symbols) = (session.conditions(), session.symbols());
            let mut text = String::new();
            for set in &all {
                let mark = if set.enabled { " " } else { "-" };
                let hits = if set.hits == 1 { "1 hit".to_owned() } else { format!("{} hits", set.hits) };
                let ignore =
                    if set.ignore > 0 { format!(", {} more ignored", set.ignore) } else { String::new() };
                let _ = writeln!(
                    text,
                    "{mark}{:>3}  {:<40} {hits}{ignore}",
                    set.id,
                    named(&set.condition, &symbols)
                );
            }
            if all.is_empty() {
                text.push_str("no conditions; `break add --help` shows what there is");
            }
            Answer::new(text, all)
        }
        BreakAction::Remove { id } => session.remove_condition(*id).map(|()| Answer::done()).map_err(told),
        BreakAction::Enable { id } => {
            session.enable_condition(*id, true).map(|()| Answer::done()).map_err(told)
        }
        BreakAction::Disable { id } => {
            session.enable_condition(*id, false).map(|()| Answer::done()).map_err(told)
        }
    }
}

/// A condition with the name of its address.
pub fn named(condition: &Condition, symbols: &Symbols) -> String {
    let address = match condition {
        Condition::Execute { address } => Some(*address),
        Condition::Data { start, .. } => Some(*start),
        _ => None,
    };
    let name = address.and_then(|address| symbols.name_of(address));
    name.map_or_else(|| condition.to_string(), |name| format!("{condition} ({name})"))
}

/// Makes steps, forwards or backwards.
pub fn step(machine: &dyn Running, arguments: &StepArguments) -> Result<Answer, String> {
    begin_steps(machine, arguments)?;
    arrival(machine, session(machine)?, Duration::from_secs(arguments.wait))
}

/// Begins steps, and does not wait until they are made; those backwards are made when this returns.
pub fn begin_steps(machine: &dyn Running, arguments: &StepArguments) -> Result<(), String> {
    let session = session(machine)?;
    if arguments.back {
        return session.go_back(Way::Steps(arguments.count)).map_err(|error| error.to_string());
    }
    let goal = match arguments {
        StepArguments { over: true, count, .. } => Goal::Over(*count),
        StepArguments { out: true, .. } => Goal::Out,
        StepArguments { count, .. } => Goal::Into(*count),
    };
    if matches!(goal, Goal::Into(0) | Goal::Over(0)) {
        return Err("no step is no step; write 1 or more".to_owned());
    }
    let others = if arguments.others { Others::GoOn } else { Others::Stand };
    session.go(arguments.cpu, goal, others).map_err(|error| error.to_string())
}

/// Goes on to an address.
pub fn until(machine: &dyn Running, cpu: usize, place: &str, wait: u64) -> Result<Answer, String> {
    begin_until(machine, cpu, place)?;
    arrival(machine, session(machine)?, Duration::from_secs(wait))
}

/// Sets off to an address.
pub fn begin_until(machine: &dyn Running, cpu: usize, place: &str) -> Result<(), String> {
    let session = session(machine)?;
    let address = session.symbols().address_of(place)?;
    session.go(cpu, Goal::Until(address), Others::GoOn).map_err(|error| error.to_string())
}

/// Goes on to the next condition, or back to the previous one.
pub fn go_on(machine: &dyn Running, back: bool, wait: u64) -> Result<Answer, String> {
    begin_to_go_on(machine, back)?;
    arrival(machine, session(machine)?, Duration::from_secs(wait))
}

/// Sets off to the next condition; one that lies back has been reached when this returns.
pub fn begin_to_go_on(machine: &dyn Running, back: bool) -> Result<(), String> {
    let session = session(machine)?;
    match back {
        true => session.go_back(Way::Stop).map_err(|error| error.to_string()),
        false => {
            session.resume();
            Ok(())
        }
    }
}

/// Waits until the machine stands still, and says where and why.
fn arrival(machine: &dyn Running, session: &Session, wait: Duration) -> Result<Answer, String> {
    let stopped = session.wait_stop(wait);
    match (stopped, session.state()) {
        (_, engine::RunState::Running) => {
            Err(format!("it still runs after {} s; `pause` stops it wherever it is", wait.as_secs()))
        }
        (None, engine::RunState::Paused) => Answer::new("paused", json!({ "stopped": null })),
        (Some(stopped), _) => place(machine, session, &stopped),
        (None, engine::RunState::Ended(_)) => Err("the machine has ended".to_owned()),
    }
}

fn place(machine: &dyn Running, session: &Session, stopped: &Stopped) -> Result<Answer, String> {
    let cpu = stopped.cpu.unwrap_or(0);
    let registers = latest(machine, cpu)?;
    let linear = code::linear(&registers, registers.rip);
    let name = session.symbols().name_of(linear);
    let line = code::disassemble(&registers, machine.memory(), registers.rip, 1).into_iter().next();
    let instruction = line.map_or("(no memory is mapped there)".to_owned(), |line| line.text);
    let selector = registers.segments[1].selector;
    let shown = name.as_deref().map_or(String::new(), |name| format!("  <{name}>"));
    let text = format!("{}\n> {selector:04x}:{:x}{shown}  {instruction}", stopped.in_words(), registers.rip);
    Answer::new(
        text,
        json!({
            "stopped": stopped, "cpu": cpu, "rip": registers.rip, "linear": linear, "name": name,
            "instruction": instruction,
        }),
    )
}

/// Loads, forgets and looks up symbols.
pub fn symbols(machine: &dyn Running, action: &SymbolsAction) -> Result<Answer, String> {
    let session = session(machine)?;
    match action {
        SymbolsAction::Load { path } => {
            let told = |error: std::io::Error| format!("{}: {error}", path.display());
            if std::fs::metadata(path).map_err(told)?.len() > MOST_SYMBOL_BYTES {
                return Err(format!("{}: longer than {} MiB", path.display(), MOST_SYMBOL_BYTES >> 20));
            }
            let file = std::fs::read(path).map_err(told)?;
            let symbols = Symbols::parse(&file).map_err(|error| format!("{}: {error}", path.display()))?;
            let count = symbols.len();
            session.set_symbols(symbols);
            Answer::new(format!("{count} symbols"), json!({ "symbols": count }))
        }
        SymbolsAction::Clear => {
            session.set_symbols(Symbols::default());
            Ok(Answer::done())
        }
        SymbolsAction::Find { place } => {
            let address = session.symbols().address_of(place)?;
            let name = session.symbols().name_of(address);
            let text = format!("{address:#x}  {}", name.as_deref().unwrap_or("no name"));
            Answer::new(text, json!({ "address": address, "name": name }))
        }
    }
}

/// Keeps the past, or does not.
pub fn history(machine: &dyn Running, on: bool, memory_mib: u64) -> Result<Answer, String> {
    let limits = on.then(|| history_limits(memory_mib));
    session(machine)?.keep_history(limits).map_err(|error| error.to_string())?;
    Ok(Answer::done())
}

/// Limits of a past that may take so much memory.
pub fn history_limits(memory_mib: u64) -> HistoryLimits {
    HistoryLimits { memory_bytes: memory_mib.saturating_mul(1 << 20), ..HistoryLimits::default() }
}

/// An offset of the code segment: a number, or a symbol.
pub fn address(machine: &dyn Running, place: &str) -> Result<u64, String> {
    match machine.session() {
        Some(session) => session.symbols().address_of(place),
        None => number(place),
    }
}

/// The name that begins at an address.
pub fn label(machine: &dyn Running, linear: u64) -> Option<String> {
    name(machine, linear).filter(|name| !name.contains('+'))
}

/// The name behind an address, for text.
pub fn name(machine: &dyn Running, linear: u64) -> Option<String> {
    machine.session()?.symbols().name_of(linear)
}

/// Frames by the frame pointer, and words with the names they may be.
pub fn stack(machine: &dyn Running, cpu: usize, count: usize) -> Result<Answer, String> {
    let registers = latest(machine, cpu)?;
    let frames = stack::frames(&registers, machine.memory());
    let words = stack::words(&registers, machine.memory(), count);
    let digits = 2 * stack::word_bytes(&registers) as usize;
    let named = |offset: u64| name(machine, code::linear(&registers, offset)).unwrap_or_default();
    let mut text = String::from("frames, by RBP:\n");
    let here = registers.rip;
    let _ = writeln!(text, "    {here:0digits$x}  {}", named(here));
    for frame in &frames {
        let _ = writeln!(text, "    {:0digits$x}  {}", frame.returns_to, named(frame.returns_to));
    }
    text.push_str("words:\n");
    for word in &words {
        let line = format!("    {:0digits$x}  {:0digits$x}  {}", word.at, word.value, named(word.value));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    Answer::new(text, json!({ "frames": frames, "words": words }))
}

/// Keeps all registers under a name.
pub fn keep(machine: &dyn Running, name: &str) -> Result<Answer, String> {
    session(machine)?.keep_registers(name)?;
    Answer::new(
        format!("kept as '{name}'; `registers --compare {name}` shows what has changed"),
        json!({ "kept": name }),
    )
}

/// Registers kept under a name.
pub fn kept(machine: &dyn Running, name: &str, cpu: usize) -> Result<Registers, String> {
    let kept =
        session(machine)?.kept_registers(name).ok_or_else(|| format!("nothing is kept as '{name}'"))?;
    kept.get(cpu).cloned().ok_or_else(|| format!("'{name}' has no CPU {cpu}"))
}

/// What differs between two states.
pub fn comparison(names: [&str; 2], first: &Registers, second: &Registers) -> Result<Answer, String> {
    let found = differences(first, second);
    let mut text = format!("{:<24} {:<24} {}\n", "", names[0], names[1]);
    for difference in &found {
        let _ = writeln!(text, "{:<24} {:<24} {}", difference.name, difference.first, difference.second);
    }
    if found.is_empty() {
        text = format!("{} and {} are equal", names[0], names[1]);
    }
    Answer::new(text, json!({ "first": names[0], "second": names[1], "differences": found }))
}

/// `NAME:CPU` apart; CPU 0 where none is named.
pub fn of_cpu(text: &str) -> Result<(&str, usize), String> {
    match text.rsplit_once(':') {
        Some((name, cpu)) => Ok((name, number(cpu)? as usize)),
        None => Ok((text, 0)),
    }
}
