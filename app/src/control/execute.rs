//! From a request to its answer.

use std::fmt::Write;
use std::sync::Arc;

use cpu::Registers;
use engine::inspect::{self, bits, code, descriptor, exception, summary, task};
use engine::profile::LostTicks;
use engine::session::{Ending, RunState, Session};
use hardware::input::{Key, typing};
use serde_json::{Value, json};

use super::command::{Button, Table};
use super::{Answer, Command, Registry, Request, debug, edit, gdb, parts, resources, saved, sound, trace};
use crate::cli::script;
use crate::register_rows::{GROUPS, local_apic, rows};
use crate::running::Running;
use crate::{outputs, report, search};

/// Most bytes of memory in one answer.
const MOST_BYTES: u64 = 1 << 16;
/// How long keys are held: long enough for a guest that looks every 55 ms.
const HOLD: std::time::Duration = std::time::Duration::from_millis(80);

/// Does what is asked; the answer, or why not.
pub fn execute(registry: &Registry, request: &Request) -> Result<Answer, String> {
    if let Some(done) = resources::execute(registry, &request.command) {
        return done;
    }
    match &request.command {
        Command::List => return list(registry),
        Command::Registers { all: true, only_json, .. } if request.machine.is_none() => {
            let all = registry.all();
            let all: Vec<_> = all.iter().map(|(name, machine)| (name.as_str(), &**machine)).collect();
            return Ok(all_registers(&all, *only_json));
        }
        _ => {}
    }
    let is_of_host = matches!(&request.command, Command::Set { changes, .. } if edit::are_of_host(changes));
    let (name, machine) = match request.machine.as_deref() {
        None if is_of_host => registry.all().into_iter().next().ok_or("no machine runs here")?,
        named => registry.find(named)?,
    };
    one(&name, &*machine, &request.command)
}

pub fn one(name: &str, machine: &dyn Running, command: &Command) -> Result<Answer, String> {
    match command {
        Command::Pause => machine.pause(),
        Command::Resume => machine.resume(),
        Command::Reset => machine.reset(),
        Command::Poweroff => machine.power_off(),
        Command::PowerButton => machine.press_power_button(),
        Command::Type { text } => {
            let text = script::unescape(text)?;
            if let Some(character) = text.chars().find(|character| typing::type_text(*character).is_none()) {
                return Err(format!("'{character}' is on no key of a US keyboard; nothing was typed"));
            }
            machine.type_text(&text);
        }
        Command::Mouse { x, y, at, wheel, click } => mouse(machine, (*x, *y), *at, *wheel, *click)?,
        Command::Serial { text, console: false } => machine.send_serial(script::unescape(text)?.as_bytes()),
        Command::Serial { text, console: true } => {
            let text = script::unescape(text)?;
            let taken = real(machine)?.send_console(text.as_bytes());
            if taken < text.len() {
                return Err(format!(
                    "virtio's console took {taken} of {} bytes: the guest does not drive it, or does not read",
                    text.len()
                ));
            }
        }
        Command::Keys { keys } => press(machine, &script::keys(keys)?),
        Command::Screenshot { path } => outputs::write_png(path, &machine.frame())?,
        Command::Write { address, bytes, linear: None } => edit::write(machine, *address, bytes)?,
        Command::Write { address, bytes, linear: Some(cpu) } => {
            edit::write_linear(machine, *cpu, *address, bytes)?;
        }
        Command::Set { changes, cpu } => edit::set(machine, *cpu, changes)?,
        Command::Break { action } => return debug::conditions(machine, action),
        Command::Step(arguments) => return debug::step(machine, arguments),
        Command::Continue { back, wait } => return debug::go_on(machine, *back, *wait),
        Command::Until { place, cpu, wait } => return debug::until(machine, *cpu, place, *wait),
        Command::History { on, memory } => return debug::history(machine, *on, *memory),
        Command::Symbols { action } => return debug::symbols(machine, action),
        Command::Gdb { action } => return gdb::serve(machine, action),
        Command::Snapshot { what } => {
            let session = real(machine)?;
            return saved::execute(&saved::states_of(session)?, session, what);
        }
        Command::Suspend => {
            let session = real(machine)?;
            return saved::suspend(&saved::states_of(session)?, session);
        }
        Command::Drives => return parts::drives(real(machine)?),
        Command::Insert { drive, file } => return parts::insert(real(machine)?, drive, file),
        Command::Eject { drive } => return parts::eject(real(machine)?, drive),
        Command::Cable { state } => return parts::cable(real(machine)?, *state),
        Command::Capture { to } => return parts::capture(real(machine)?, to),
        Command::Sound { volume, mute, source } => {
            return sound::sound(machine, *volume, *mute, source.as_deref());
        }
        Command::Devices => return parts::devices(real(machine)?),
        question => return tell(name, machine, question),
    }
    Ok(Answer::done())
}

/// Does what is asked, without waiting for where a machine that sets off will stop.
pub fn begin(name: &str, machine: &dyn Running, command: &Command) -> Result<Answer, String> {
    match command {
        Command::Step(arguments) => debug::begin_steps(machine, arguments)?,
        Command::Continue { back, .. } => debug::begin_to_go_on(machine, *back)?,
        Command::Until { place, cpu, .. } => debug::begin_until(machine, *cpu, place)?,
        other => return one(name, machine, other),
    }
    Ok(Answer::done())
}

/// The engine's machine.
fn real(machine: &dyn Running) -> Result<&Session, String> {
    machine.session().ok_or_else(|| "only a real machine has that".to_owned())
}

/// Moves the mouse or the pointer, and clicks.
fn mouse(
    machine: &dyn Running,
    (x, y): (i32, i32),
    at: bool,
    wheel: i32,
    click: Option<Button>,
) -> Result<(), String> {
    let bit = match click {
        None => 0,
        Some(Button::Left) => 1,
        Some(Button::Right) => 2,
        Some(Button::Middle) => 4,
    };
    if at {
        let place = |part: i32| u16::try_from(part).ok().filter(|part| *part <= 0x7FFF);
        let (x, y) = place(x).zip(place(y)).ok_or("with --at, places are 0 to 32767")?;
        if !machine.takes_pointer() {
            return Err("the guest drives no pointer with absolute coordinates; leave --at out".to_owned());
        }
        machine.pointer(x, y, wheel, bit);
    } else {
        machine.mouse(x, y, wheel, bit);
    }
    if bit != 0 {
        std::thread::sleep(HOLD);
        if at { machine.pointer(x as u16, y as u16, 0, 0) } else { machine.mouse(0, 0, 0, 0) }
    }
    Ok(())
}

/// Presses keys together and lets them go.
fn press(machine: &dyn Running, keys: &[Key]) {
    keys.iter().for_each(|key| machine.key(*key, true));
    std::thread::sleep(HOLD);
    keys.iter().rev().for_each(|key| machine.key(*key, false));
}

/// Answers what changes nothing.
fn tell(name: &str, machine: &dyn Running, question: &Command) -> Result<Answer, String> {
    match question {
        Command::Registers { all: true, only_json, .. } => Ok(all_registers(&[(name, machine)], *only_json)),
        Command::Registers { keep: Some(moment), .. } => debug::keep(machine, moment),
        Command::Registers { kept: Some(moment), cpu, .. } => {
            Answer::new(String::new(), json!({ "registers": debug::kept(machine, moment, *cpu)? }))
        }
        Command::Registers { cpu, explain, .. } => registers(machine, *cpu, *explain),
        Command::Stack { cpu, words } => debug::stack(machine, *cpu, *words),
        Command::Find { wanted, from, physical, cpu } => find(machine, *cpu, wanted, *from, *physical),
        Command::Memory { address, bytes, physical, cpu } => {
            memory(machine, *cpu, *address, *bytes, *physical)
        }
        Command::Disassemble { offset, count, cpu } => disassemble(machine, *cpu, offset.as_deref(), *count),
        Command::Translate { address, cpu } => translate(machine, *cpu, *address),
        Command::Table { table, cpu } => self::table(machine, *cpu, *table),
        Command::Exits => exits(machine),
        Command::Timers => timers(machine),
        Command::Trace { act } => trace::trace(name, machine, act),
        Command::Screen => Answer::new(report::screen(machine), json!({ "text": machine.screen_text() })),
        _ => {
            let status = status(name, machine);
            Answer::new(status_text(&status), status)
        }
    }
}

fn list(registry: &Registry) -> Result<Answer, String> {
    let all: Vec<Value> = registry.all().iter().map(|(name, machine)| status(name, &**machine)).collect();
    let text: Vec<String> = all.iter().map(status_text).collect();
    Answer::new(text.join("\n"), all)
}

/// What a machine does, is made of, and uses.
fn status(name: &str, machine: &dyn Running) -> Value {
    let (state, reason) = match machine.state() {
        RunState::Running => ("running", None),
        RunState::Paused => ("paused", None),
        RunState::Ended(Ending::PoweredOff) => ("off", None),
        RunState::Ended(Ending::DebugExit(value)) => ("off", Some(format!("debug exit {value}"))),
        RunState::Ended(Ending::Crashed(_)) => ("crashed", Some("triple fault".to_owned())),
        RunState::Ended(Ending::Failed(reason)) => ("failed", Some(reason)),
    };
    let (state, reason) = match machine.session().and_then(Session::hindrance) {
        Some(hindrance) => ("waiting", Some(hindrance)),
        None => (state, reason),
    };
    let stats = machine.stats();
    let allotment = machine.allotment();
    json!({
        "name": name,
        "state": state,
        "reason": reason,
        "process": std::process::id(),
        "backend": machine.backend_note(),
        "cpus": machine.cpus(),
        "memory_bytes": machine.profile().memory.bytes(),
        "guest_seconds": stats.guest_seconds,
        "vcpu_seconds": stats.vcpu_seconds,
        "instructions": stats.instructions,
        "time_rate": machine.time_rate(),
        "shares": allotment.shares,
        "cap_percent": allotment.cap_percent,
        "reservation_percent": allotment.reservation_percent,
    })
}

fn status_text(status: &Value) -> String {
    let word = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let seconds = |key: &str| status[key].as_f64().unwrap_or_default();
    let cap = status["cap_percent"].as_u64().map_or("no cap".to_owned(), |cap| format!("cap {cap} %"));
    let reason = status["reason"].as_str().map_or(String::new(), |reason| format!(" ({reason})"));
    format!(
        "{}: {}{reason}, {} CPU, {} MiB, guest time {:.1} s, host CPU time {:.1} s, shares {}, {cap}\n  {}",
        word("name"),
        word("state"),
        status["cpus"],
        status["memory_bytes"].as_u64().unwrap_or_default() >> 20,
        seconds("guest_seconds"),
        seconds("vcpu_seconds"),
        status["shares"],
        word("backend"),
    )
}

/// The latest registers of a vCPU; exact while the machine stands still.
pub fn latest(machine: &dyn Running, cpu: usize) -> Result<Arc<Registers>, String> {
    if cpu >= machine.cpus() {
        return Err(format!("there is no CPU {cpu}; the machine has {}, counted from 0", machine.cpus()));
    }
    machine.registers(cpu).ok_or_else(|| format!("CPU {cpu} has not run yet"))
}

/// The registers of every vCPU of these machines. Programs ask for them many times a second: nothing is made twice.
fn all_registers(machines: &[(&str, &dyn Running)], only_json: bool) -> Answer {
    let (mut texts, mut list) = (Vec::new(), Vec::new());
    for (name, machine) in machines {
        for cpu in 0..machine.cpus() {
            let Some(registers) = machine.registers(cpu) else { continue };
            list.push(json!({ "machine": name, "cpu": cpu, "registers": &*registers }));
            if !only_json {
                let sentence = summary::sentence(&registers);
                texts.push(format!("{name}, CPU {cpu}: {sentence}\n{}", report::registers(&registers)));
            }
        }
    }
    Answer { text: texts.join("\n"), json: Value::Array(list) }
}

fn registers(machine: &dyn Running, cpu: usize, explain: bool) -> Result<Answer, String> {
    let registers = latest(machine, cpu)?;
    let tables = bits::all(&registers);
    let apic = machine.session().and_then(|session| session.local_apic(cpu));
    let mut text = format!("{}\n{}", summary::sentence(&registers), report::registers(&registers));
    if explain {
        let others = GROUPS.into_iter().filter(|(group, ..)| !report::SHOWN.contains(group));
        let others = others.map(|(group, name, _)| (name, rows(&registers, group)));
        let apic = apic.iter().map(|apic| ("Local APIC", local_apic(apic)));
        for (name, rows) in apic.chain(others) {
            let _ = write!(text, "\n{name}");
            for row in rows {
                let _ = write!(text, "\n  {:<16} {} {}", row.name, row.value, row.meaning);
            }
        }
        for bits::Bits { name, value, bits, .. } in &tables {
            let _ = write!(text, "\n{name} {value:#x}");
            for bit in bits {
                let mark = if bit.is_set { "1" } else { "0" };
                let _ = write!(text, "\n  {mark} {:>2} {:<10} {}", bit.bit, bit.name, bit.meaning);
            }
        }
    }
    let explained: serde_json::Map<String, Value> =
        tables.iter().map(|register| (register.name.to_owned(), json!(register.bits))).collect();
    let mut json = json!({ "cpu": cpu, "meaning": summary::sentence(&registers), "registers": &*registers });
    if let Some(apic) = apic {
        json["local_apic"] = json!(apic);
    }
    if explain {
        json["bits"] = Value::Object(explained);
    }
    Answer::new(text, json)
}

fn memory(
    machine: &dyn Running,
    cpu: usize,
    address: u64,
    count: u64,
    physical: bool,
) -> Result<Answer, String> {
    if count == 0 || count > MOST_BYTES {
        return Err(format!("{count} bytes are outside 1 to {MOST_BYTES}"));
    }
    let mut bytes = vec![0; count as usize];
    let read = match physical {
        true => machine.memory().read(address, &mut bytes),
        false => inspect::read_linear(&*latest(machine, cpu)?, machine.memory(), address, &mut bytes),
    };
    bytes.truncate(read);
    if bytes.is_empty() {
        let kind = if physical { "no memory lies" } else { "no memory is mapped" };
        return Err(format!("{kind} at {address:#x}"));
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut text = dump(address, &bytes);
    let missing = count - bytes.len() as u64;
    if missing > 0 {
        let _ = write!(text, "\n(of the other {missing} bytes, the first is at no memory)");
    }
    Answer::new(text, json!({ "address": address, "bytes": hex, "missing": missing }))
}

fn find(
    machine: &dyn Running,
    cpu: usize,
    wanted: &str,
    from: u64,
    physical: bool,
) -> Result<Answer, String> {
    let bytes = search::wanted(wanted)
        .ok_or_else(|| format!("'{wanted}' are no bytes; write for example '55 aa', or '\"text\"'"))?;
    let registers = latest(machine, cpu)?;
    let place = search::find(&registers, machine.memory(), from, physical, &bytes, search::SPAN);
    let text = place.map_or("not there, in 256 MiB".to_owned(), |place| format!("{place:#x}"));
    Answer::new(text, json!({ "address": place }))
}

/// Sixteen bytes a line: address, hexadecimal, text.
fn dump(address: u64, bytes: &[u8]) -> String {
    let line = |(number, line): (usize, &[u8])| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = line
            .iter()
            .map(|byte| if (0x20..0x7F).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        format!("{:016x}  {:<47}  {text}", address.wrapping_add(16 * number as u64), hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn disassemble(
    machine: &dyn Running,
    cpu: usize,
    offset: Option<&str>,
    count: usize,
) -> Result<Answer, String> {
    if count == 0 {
        return Err("0 instructions are none; say how many".to_owned());
    }
    let registers = latest(machine, cpu)?;
    let offset = offset.map(|place| debug::address(machine, place)).transpose()?;
    let lines = code::disassemble(&registers, machine.memory(), offset.unwrap_or(registers.rip), count);
    if lines.is_empty() {
        return Err("no memory is mapped there".to_owned());
    }
    let line = |line: &code::Line| {
        let bytes: String = line.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mark = if line.offset == registers.rip { ">" } else { " " };
        let label = debug::label(machine, line.linear);
        let label = label.map_or(String::new(), |name| format!("{name}:\n"));
        let target = line.target.and_then(|target| debug::name(machine, target));
        let target = target.map_or(String::new(), |name| format!("  <{name}>"));
        format!("{label}{mark} {:016x}  {bytes:<30}  {}{target}", line.offset, line.text)
    };
    Answer::new(lines.iter().map(line).collect::<Vec<_>>().join("\n"), &lines)
}

fn translate(machine: &dyn Running, cpu: usize, address: u64) -> Result<Answer, String> {
    let walk = inspect::walk(&*latest(machine, cpu)?, machine.memory(), address);
    let step = |step: &inspect::Step| {
        format!("  {:<14} entry at {:#012x}: {:016x}  {}\n", step.table, step.address, step.value, step.flags)
    };
    let steps: String = walk.steps.iter().map(step).collect();
    Answer::new(format!("linear {address:#x}\n{steps}  {}", walk.in_words()), &walk)
}

fn table(machine: &dyn Running, cpu: usize, table: Table) -> Result<Answer, String> {
    let registers = latest(machine, cpu)?;
    let memory = machine.memory();
    let entries = match table {
        Table::Gdt => descriptor::global_table(&registers, memory),
        Table::Ldt => descriptor::local_table(&registers, memory),
        Table::Idt => descriptor::interrupt_table(&registers, memory),
        Table::Tss => {
            let fields = task::fields(&registers, memory);
            let text: Vec<String> =
                fields.iter().map(|field| format!("{:<14} {:#x}", field.name, field.value)).collect();
            let text =
                if text.is_empty() { "no task register is loaded".to_owned() } else { text.join("\n") };
            return Answer::new(text, fields);
        }
    };
    let line = |entry: &descriptor::Entry| {
        let name = if table == Table::Idt { exception::name(entry.number as u8) } else { String::new() };
        format!("{:04x}  {:<34} {name}", entry.number, entry.descriptor.in_words()).trim_end().to_owned()
    };
    let text = match entries.is_empty() {
        true => "the table is empty, or its memory cannot be read".to_owned(),
        false => entries.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    Answer::new(text, &entries)
}

fn exits(machine: &dyn Running) -> Result<Answer, String> {
    let stats = machine.stats();
    let exits = &stats.exits;
    let mut text = String::new();
    for (name, count, seconds) in [
        ("port accesses", exits.port, exits.seconds.port),
        ("device memory reads", exits.memory_read, exits.seconds.memory_read),
        ("device memory writes", exits.memory_write, exits.seconds.memory_write),
    ] {
        let each = seconds * 1e6 / count.max(1) as f64;
        let _ = writeln!(text, "{count:>14}  {name}; {seconds:.3} s of host time, {each:.2} us each");
    }
    for (name, count) in [
        ("interrupts taken", exits.interrupt),
        ("halts", exits.halt),
        ("slices ended by the monitor", exits.kick),
        ("reads nobody answered", exits.unclaimed.0),
        ("writes nobody took", exits.unclaimed.1),
    ] {
        let _ = writeln!(text, "{count:>14}  {name}");
    }
    let mut ports: Vec<_> = exits.ports.iter().collect();
    ports.sort_by_key(|port| std::cmp::Reverse(port.accesses));
    for port in ports.iter().take(16) {
        let _ = writeln!(text, "{:>14}  port {}", port.accesses, port.port);
    }
    Answer::new(text, json!({ "exits": exits, "devices": stats.devices, "interrupts": stats.interrupts }))
}

fn timers(machine: &dyn Running) -> Result<Answer, String> {
    let timers = machine.stats().timers;
    let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
    let mut text = format!(
        "{:<16} {:<32} {:>12} {:>10} {:>10} {:>9} {:>8} {:>8} {:>9} {:>28}\n",
        "timer",
        "mode",
        "period (us)",
        "raised",
        "delivered",
        "replayed",
        "merged",
        "owed",
        "withdrawn",
        "late (us): p50, p99, max"
    );
    for timer in &timers.guest {
        let period = timer.period_ns.map_or("-".to_owned(), |ns| format!("{:.1}", ns / 1e3));
        let late = format!(
            "{}, {}, {}",
            us(timer.lateness.p50_ns),
            us(timer.lateness.p99_ns),
            us(timer.lateness.max_ns)
        );
        let _ = writeln!(
            text,
            "{:<16} {:<32} {period:>12} {:>10} {:>10} {:>9} {:>8} {:>8} {:>9} {late:>28}",
            timer.name,
            timer.mode,
            timer.raised,
            timer.delivered,
            timer.replayed,
            timer.merged,
            timer.owed,
            timer.withdrawn
        );
    }
    let _ = write!(
        text,
        "lost ticks are {}; host: {} slices, {} of them ended by the quantum timer",
        match machine.lost_ticks() {
            LostTicks::Merge => "merged",
            LostTicks::Replay => "replayed",
        },
        timers.host_slices,
        timers.host_quantum_expiries
    );
    Answer::new(text, timers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::fake::{Deed, Fake};

    fn ask(fake: &Arc<Fake>, command: Command) -> Result<Answer, String> {
        let registry = Registry::default();
        let machine: Arc<dyn Running> = fake.clone();
        registry.add(&machine);
        execute(&registry, &Request { machine: None, command })
    }

    #[test]
    fn registers_come_with_their_meaning_and_bits_in_words() {
        let fake = Fake::new("one");
        let command = Command::registers(0, false, true);
        let answer = ask(&fake, command).unwrap();
        assert!(answer.text.starts_with("real mode, paging off"), "{}", answer.text);
        assert!(answer.text.contains("real mode") && answer.text.contains("caches are off"));
        assert_eq!(answer.json["registers"]["rip"], 0xFFF0);
        let none = ask(&fake, Command::registers(3, false, false));
        assert!(none.unwrap_err().contains("CPU 3"));
    }

    #[test]
    fn memory_and_code_are_read_and_bounds_are_told() {
        let fake = Fake::new("one");
        fake.set_memory(0x7C00, &[0xB8, 0x34, 0x12, 0xF4]);
        fake.set_registers(|registers| {
            registers.segments[1].base = 0;
            registers.rip = 0x7C00;
        });
        let memory = |address, bytes| Command::Memory { address, bytes, physical: true, cpu: 0 };
        let answer = ask(&fake, memory(0x7C00, 4)).unwrap();
        assert_eq!(answer.json["bytes"], "b83412f4");
        let found = |wanted: &str| {
            let command = Command::Find { wanted: wanted.into(), from: 0, physical: true, cpu: 0 };
            ask(&fake, command).map(|answer| answer.json["address"].clone())
        };
        assert_eq!(found("34 12 f4"), Ok(json!(0x7C01)));
        assert_eq!(found("34 12 f5"), Ok(Value::Null));
        assert!(found("3").unwrap_err().contains("55 aa"));
        let end = ask(&fake, memory(0xFFF8, 16)).unwrap();
        assert_eq!((&end.json["missing"], end.text.contains("other 8 bytes")), (&json!(8), true));
        assert!(ask(&fake, memory(0, 1 << 30)).unwrap_err().contains("65536"));
        assert!(ask(&fake, memory(1 << 40, 4)).unwrap_err().contains("no memory"));
        let code = ask(&fake, Command::Disassemble { offset: None, count: 2, cpu: 0 }).unwrap();
        assert!(
            code.text.contains("> 0000000000007c00") && code.text.contains("mov ax,1234h"),
            "{}",
            code.text
        );
    }

    #[test]
    fn keys_and_text_reach_the_machine() {
        let fake = Fake::new("one");
        ask(&fake, Command::Type { text: "dir\\n".into() }).unwrap();
        assert!(ask(&fake, Command::Type { text: "h\u{e4}llo".into() }).unwrap_err().contains('\u{e4}'));
        assert_eq!(fake.deeds(), [Deed::Type("dir\n".into())]);
        assert!(ask(&fake, Command::Keys { keys: "ctrl-nonsense".into() }).is_err());
    }

    #[test]
    fn every_machine_of_the_process_is_listed() {
        let registry = Registry::default();
        let machines: Vec<Arc<dyn Running>> = vec![Fake::new("a"), Fake::new("b")];
        machines.iter().for_each(|machine| drop(registry.add(machine)));
        let list = execute(&registry, &Request { machine: None, command: Command::List }).unwrap();
        assert_eq!((&list.json[0]["name"], &list.json[1]["state"]), (&json!("a"), &json!("running")));
        let all = Command::registers(0, true, false);
        let registers = execute(&registry, &Request { machine: None, command: all }).unwrap();
        assert_eq!(registers.json.as_array().unwrap().len(), 2);
    }
}
