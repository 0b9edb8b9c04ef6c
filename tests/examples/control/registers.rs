//! What it costs ten guests that a program asks for all their registers thirty times a second, over the socket, as
//! `vitrine ctl --watch 30 registers --all --json` does: the guests' work for each second of CPU time with and without,
//! in turn; and the host's time that the answers take.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::vitrine::{Connection, Vitrine};
use crate::{Findings, median};

const GUESTS: usize = 10;
const HZ: u32 = 30;
/// With and without, one after the other.
const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_secs(2);
/// Writes and reads memory, calls, branches: `cli`; again: `inc dword [bx]`, `mov eax, [bx]`, `call` the `ret`, `jmp again`.
const BUSY: [u8; 19] = [
    0xFA, 0xBB, 0x00, 0x7E, 0xBC, 0x00, 0x7C, 0x66, 0xFF, 0x07, 0x66, 0x8B, 0x07, 0xE8, 0x02, 0x00, 0xEB,
    0xF5, 0xC3,
];

/// Where the guests stand.
struct Standing {
    /// Instructions and CPU seconds of each.
    guests: Vec<(f64, f64)>,
    /// CPU seconds of the whole process.
    process_seconds: f64,
}

/// How long they may take to start.
const START: Duration = Duration::from_secs(10);

pub fn measure(findings: &mut Findings) {
    println!("registers: of {GUESTS} busy guests in one process, {HZ} times a second over the socket");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("busy.bin");
    fs::write(&program, BUSY).expect("room for a small file");
    let vitrine = Vitrine::run(folder.path(), &vec![program; GUESTS], &["--memory", "16M"]);
    match rounds(&vitrine) {
        Ok(rounds) => tell(findings, rounds),
        Err(reason) => findings.note("registers of all, 30 times a second", reason, "answered", false),
    }
}

/// Each round, without and with: work of each guest per CPU second, and CPU seconds of the process besides the guests.
type Round = (Vec<f64>, f64);

fn rounds(vitrine: &Vitrine) -> Result<Vec<[Round; 2]>, String> {
    let mut connection = vitrine.connect()?;
    let mut names: Vec<Value> = Vec::new();
    let begun = Instant::now();
    // The first of them answers before the last has started.
    while names.len() != GUESTS && begun.elapsed() < START {
        let list = connection.ask(&Value::Null, &json!("list"))?;
        names = list.as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
    }
    if names.len() != GUESTS {
        return Err(format!("{} machines run", names.len()));
    }
    thread::sleep(Duration::from_secs(1));
    let mut rounds = Vec::new();
    for number in 0..ROUNDS {
        let mut round: [Round; 2] = Default::default();
        // Whichever comes first has no advantage.
        let order = if number % 2 == 0 { [false, true] } else { [true, false] };
        for with in order {
            let before = stand(vitrine, &mut connection, &names)?;
            spend(&mut connection, with)?;
            let after = stand(vitrine, &mut connection, &names)?;
            round[usize::from(with)] = passed(&before, &after);
        }
        rounds.push(round);
    }
    Ok(rounds)
}

/// Lets a round pass, asking or not.
fn spend(connection: &mut Connection, asking: bool) -> Result<(), String> {
    let period = Duration::from_secs(1) / HZ;
    let begun = Instant::now();
    let mut due = begun;
    while begun.elapsed() < ROUND {
        due += period;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if asking {
            let registers = json!({ "registers": { "all": true, "only_json": true } });
            let answer = connection.ask(&Value::Null, &registers)?;
            let vcpus = answer.as_array().map_or(0, Vec::len);
            if vcpus != GUESTS {
                return Err(format!("registers of {vcpus} vCPUs came"));
            }
        }
    }
    Ok(())
}

/// What all have done, exactly: they stand still meanwhile.
fn stand(vitrine: &Vitrine, connection: &mut Connection, names: &[Value]) -> Result<Standing, String> {
    for name in names {
        connection.ask(name, &json!("pause"))?;
    }
    let stand_still = |list: &Value| {
        let is_known = |one: &Value| one["state"].as_str() == Some("paused") && one["instructions"].is_u64();
        list.as_array().is_some_and(|all| all.iter().all(is_known))
    };
    let mut list = connection.ask(&Value::Null, &json!("list"))?;
    while !stand_still(&list) {
        thread::sleep(Duration::from_millis(1));
        list = connection.ask(&Value::Null, &json!("list"))?;
    }
    let of = |one: &Value| Some((one["instructions"].as_f64()?, one["vcpu_seconds"].as_f64()?));
    let guests: Option<Vec<_>> = list.as_array().into_iter().flatten().map(of).collect();
    let process_seconds = vitrine.cpu_seconds();
    for name in names {
        connection.ask(name, &json!("resume"))?;
    }
    Ok(Standing { guests: guests.ok_or("a guest that tells no counts")?, process_seconds })
}

fn passed(before: &Standing, after: &Standing) -> Round {
    let guests = before.guests.iter().zip(&after.guests);
    let used: f64 = guests.clone().map(|(before, after)| after.1 - before.1).sum();
    let rates = guests.map(|(before, after)| (after.0 - before.0) / (after.1 - before.1)).collect();
    (rates, after.process_seconds - before.process_seconds - used)
}

fn tell(findings: &mut Findings, rounds: Vec<[Round; 2]>) {
    let of = |guest: usize, with: usize| median(rounds.iter().map(|round| round[with].0[guest]));
    let lost = |guest: usize| {
        let ratios = rounds.iter().map(|round| round[1].0[guest] / round[0].0[guest]);
        (1.0 - median(ratios)) * 100.0
    };
    println!("  {:<8} {:>22} {:>22} {:>9}", "guest", "without: MIPS", "with: MIPS", "lost");
    for guest in 0..GUESTS {
        let [without, with] = [0, 1].map(|with| of(guest, with) / 1e6);
        println!("  {guest:<8} {without:>22.2} {with:>22.2} {:>7.2} %", lost(guest));
    }
    let all = median((0..GUESTS).map(lost));
    let worst = (0..GUESTS).map(lost).fold(f64::MIN, f64::max);
    let found = format!("{all:.2} %, {worst:.2} %");
    findings.note("work lost per CPU second: median, most", found, "at most 1 %", worst <= 1.0);
    let besides = |with: usize| median(rounds.iter().map(|round| round[with].1));
    let cpus = thread::available_parallelism().map_or(1, |n| n.get()) as f64;
    let percent = (besides(1) - besides(0)) / ROUND.as_secs_f64() / cpus * 100.0;
    findings.note(
        "host CPU time that the answers take",
        format!("{percent:.2} %"),
        "at most 1 %",
        percent <= 1.0,
    );
}
