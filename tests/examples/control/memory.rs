//! Two Linux guests of 512 MiB on the software CPU: 128 MiB go from one to the other and back. What the guests say and
//! what the host spends, before and after; how long it takes; how long a vCPU stands still meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine::profile::{Profile, Size};
use engine::resources::{Goods, Resources, Transfer, TransferState};
use engine::scheduler::Scheduler;
use machine_tests::answering::Answering;

use crate::Findings;

const MIB: u64 = 1 << 20;
const AMOUNT: u64 = 128 * MIB;
const CEILING: u64 = 640;
/// Linux reports free pages at most this long after they became free (mm/page_reporting.c: two seconds).
const REPORTING: Duration = Duration::from_secs(5);

struct Figures {
    seen: u64,
    free: u64,
    balloon: u64,
    granted: u64,
    spent: u64,
    ceiling: u64,
}

impl Figures {
    fn of(linux: &Answering, at: usize) -> Figures {
        let told = linux.ask("memory");
        let field =
            |name: &str| engine::resources::host::meminfo_bytes(&told, name).expect("a line of meminfo");
        let report = &Resources::global().report().machines[at];
        Figures {
            seen: field("MemTotal:"),
            free: field("MemFree:"),
            balloon: report.memory.balloon_bytes,
            granted: report.grant.memory.charged_bytes,
            spent: report.memory.spent_bytes,
            ceiling: report.grant.memory.ceiling_bytes,
        }
    }

    /// What the guest holds by its own account: all it has, less its balloon, less what it has free.
    fn held(&self) -> u64 {
        self.ceiling - self.balloon - self.free
    }
}

pub fn measure(findings: &mut Findings) {
    println!("memory: two Linux guests of 512 MiB, {} MiB there and back", AMOUNT / MIB);
    let profile = |name: &str| {
        let mut profile = Profile::new(name);
        profile.memory = Size::mib(CEILING);
        profile.memory_now = Some(Size::mib(512));
        profile
    };
    let Some(a) = Answering::start(profile("A"), true) else { return };
    let b = Answering::start(profile("B"), true).expect("the packages are there");
    let both = [&a, &b];
    both.iter().for_each(|linux| linux.wait_ready());
    // A vCPU that always has something to do shows every pause.
    both.iter().for_each(|linux| drop(linux.ask("spin")));
    // Memory that was touched, and is free again, is the host's to get back.
    both.iter().for_each(|linux| drop((linux.ask("fill"), linux.ask("empty"))));
    let ids = both.map(|linux| linux.guest.session().id().expect("it runs"));
    let before = figures(&both);
    table("before", &before);
    let (there, still) = moved(ids[0], ids[1]);
    told(findings, "A to B", &there, still);
    thread::sleep(REPORTING);
    let after = figures(&both);
    table("after A to B", &after);
    agree(findings, &before, &after, [-1, 1]);
    let (back, still) = moved(ids[1], ids[0]);
    told(findings, "B to A", &back, still);
    thread::sleep(REPORTING);
    let last = figures(&both);
    table("after B to A", &last);
    agree(findings, &after, &last, [1, -1]);
}

fn figures(both: &[&Answering; 2]) -> [Figures; 2] {
    [Figures::of(both[0], 0), Figures::of(both[1], 1)]
}

fn table(when: &str, figures: &[Figures; 2]) {
    println!("  {when} (MiB)");
    println!(
        "    {:<4} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "", "MemTotal", "MemFree", "balloon", "granted", "holds", "host pays"
    );
    for (name, f) in ["A", "B"].iter().zip(figures) {
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
        println!(
            "    {name:<4} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
            mib(f.seen),
            mib(f.free),
            mib(f.balloon),
            mib(f.granted),
            mib(f.held()),
            mib(f.spent)
        );
    }
}

/// Moves the amount; the transfer when it is over, and the longest time either vCPU stood still.
fn moved(
    donor: engine::resources::MachineId,
    receiver: engine::resources::MachineId,
) -> (Transfer, Duration) {
    let over = Arc::new(AtomicBool::new(false));
    let watch = {
        let over = over.clone();
        thread::spawn(move || longest_pause(&over))
    };
    let resources = Resources::global();
    let number = resources.transfer(donor, receiver, Goods::Memory(AMOUNT)).expect("it can move");
    let begun = Instant::now();
    let transfer = loop {
        let transfer = resources.transfer_numbered(number).expect("it is kept");
        if transfer.state.is_over() || begun.elapsed() > Duration::from_secs(60) {
            break transfer;
        }
        thread::sleep(Duration::from_millis(2));
    };
    over.store(true, Ordering::Relaxed);
    (transfer, watch.join().expect("the watch ends"))
}

/// The longest time a vCPU that always wants to run did not: between its slices, or in one that was not given back
/// when its time was up.
fn longest_pause(over: &AtomicBool) -> Duration {
    let scheduler = Scheduler::global();
    let (_, mut from) = scheduler.slices_since(u64::MAX);
    let mut last_end: BTreeMap<u64, u64> = BTreeMap::new();
    let mut longest_ns = 0;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
        let (slices, next) = scheduler.slices_since(from);
        from = next;
        for slice in slices {
            let end = slice.begun_ns + slice.lasted_ns;
            if let Some(before) = last_end.insert(slice.entity, end) {
                longest_ns = longest_ns.max(slice.begun_ns.saturating_sub(before));
            }
            longest_ns = longest_ns.max(slice.lasted_ns.saturating_sub(slice.granted_ns));
        }
    }
    Duration::from_nanos(longest_ns)
}

fn told(findings: &mut Findings, way: &str, transfer: &Transfer, still: Duration) {
    let first = transfer.times.first().map_or(0, |(_, at)| *at);
    let times: Vec<String> = transfer
        .times
        .iter()
        .map(|(state, at)| format!("{} {:.0} ms", state.word(), (at - first) as f64 / 1e6))
        .collect();
    println!("  {way}: {} ({})", transfer.outcome, times.join(", "));
    let seconds = transfer.lasted_ns() as f64 / 1e9;
    let done = transfer.state == TransferState::Done && transfer.given == AMOUNT;
    findings.note(&format!("{way}: time"), format!("{seconds:.2} s"), "under 5 s", done && seconds < 5.0);
    let ms = still.as_secs_f64() * 1e3;
    findings.note(
        &format!("{way}: longest a vCPU stood still"),
        format!("{ms:.1} ms"),
        "under 200 ms",
        ms < 200.0,
    );
}

/// What the guests see follows what was moved, and what the host spends follows what the guests hold, to 5 %.
fn agree(findings: &mut Findings, before: &[Figures; 2], after: &[Figures; 2], signs: [i64; 2]) {
    for (n, name) in ["A", "B"].into_iter().enumerate() {
        let change = |was: u64, is: u64| (is as i64 - was as i64) as f64 / MIB as f64;
        let wanted = signs[n] as f64 * (AMOUNT / MIB) as f64;
        for (what, found) in [
            ("MemTotal", change(before[n].seen, after[n].seen)),
            ("grant", change(before[n].granted, after[n].granted)),
        ] {
            let good = (found - wanted).abs() <= wanted.abs() * 0.05;
            findings.note(
                &format!("{name}: change of {what}"),
                format!("{found:+.1} MiB"),
                &format!("{wanted:+} MiB, 5 %"),
                good,
            );
        }
        let (holds, pays) = (after[n].held() as f64, after[n].spent as f64);
        let apart = (pays - holds).abs() / (512 * MIB) as f64 * 100.0;
        findings.note(
            &format!("{name}: what it holds and what the host pays"),
            format!("{:.1}, {:.1} MiB", holds / MIB as f64, pays / MIB as f64),
            "apart 5 % of 512 MiB",
            apart <= 5.0,
        );
    }
}
