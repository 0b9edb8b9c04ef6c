//! Two guests that spin with interrupts off, on one worker: shares, cap, how soon a change is in force, and that the
//! worker always comes back.

use std::thread;
use std::time::{Duration, Instant};

use engine::scheduler::{Allotment, Scheduler, Slice};
use machine_tests::{Guest, SOFT};

use crate::{Findings, answers};

/// `cli`, and a jump to itself: nothing but the monitor ends this.
const SPIN: [u8; 3] = [0xFA, 0xEB, 0xFE];
const SHARED: Duration = Duration::from_secs(20);
const CAPPED: Duration = Duration::from_secs(10);
/// How soon a change shall be in force.
const SOON: Duration = Duration::from_millis(100);

pub fn measure(findings: &mut Findings) {
    println!("processor: two guests that spin with interrupts off, on one worker");
    let scheduler = Scheduler::global_with(1);
    assert_eq!(scheduler.workers(), 1, "the processor's part comes first, or alone");
    let [a, b] = [(); 2].map(|()| Guest::flat(&SPIN, SOFT));
    let shares = |shares| Allotment { shares, ..Allotment::default() };
    let allot = |guest: &Guest, allotment| guest.session().allot(allotment).expect("it can have that");
    allot(&a, shares(3072));
    allot(&b, shares(1024));
    thread::sleep(SOON);
    let used = cpu_seconds(&[&a, &b], SHARED);
    let ratio = used[0] / used[1];
    let good = (ratio - 3.0).abs() <= 3.0 * 0.03;
    findings.note(
        "shares 3072 and 1024: CPU time over 20 s",
        format!("{ratio:.3} to 1"),
        "3 to 1, 3 %",
        good,
    );

    allot(&a, Allotment { cap_percent: Some(25), ..shares(3072) });
    thread::sleep(SOON);
    let used = cpu_seconds(&[&a, &b], CAPPED);
    let percent = used[0] / CAPPED.as_secs_f64() * 100.0;
    let good = (percent - 25.0).abs() <= 2.0;
    findings.note("cap 25: CPU time over 10 s", format!("{percent:.2} %"), "25 %, 2 points", good);

    // From three quarters to a quarter of the worker's time, and back: what the slices from 100 ms on say.
    allot(&a, shares(3072));
    thread::sleep(Duration::from_secs(1));
    for (what, allotment, wanted) in
        [("3 to 1 -> 1 to 3", shares(341), 25.0), ("1 to 3 -> 3 to 1", shares(3072), 75.0)]
    {
        let (_, from) = scheduler.slices_since(u64::MAX);
        allot(&a, allotment);
        thread::sleep(SOON + Duration::from_secs(1));
        let (slices, _) = scheduler.slices_since(from);
        let percent = part_of_first(&slices, SOON);
        let good = (percent - wanted).abs() <= 3.0;
        findings.note(
            &format!("{what}: part of the second from 100 ms on"),
            format!("{percent:.1} %"),
            &format!("{wanted} %, 3 points"),
            good,
        );
    }

    let (_, from) = scheduler.slices_since(u64::MAX);
    thread::sleep(Duration::from_secs(10));
    let (slices, _) = scheduler.slices_since(from);
    let mut beyond: Vec<u64> =
        slices.iter().map(|slice| slice.used_ns.saturating_sub(slice.granted_ns)).collect();
    beyond.sort_unstable();
    let at = |percent: usize| beyond[(beyond.len() - 1) * percent / 100] as f64 / 1e6;
    println!(
        "  {} slices: CPU time beyond the quantum p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
        beyond.len(),
        at(50),
        at(99),
        at(100)
    );
    let found = format!("{:.3} ms", at(100));
    findings.note("worker kept beyond the quantum, most of all slices", found, "under 1 ms", at(100) < 1.0);
    drop((a, b));
    answers::measure(findings);
}

/// CPU seconds each has used in `time`.
fn cpu_seconds(guests: &[&Guest; 2], time: Duration) -> [f64; 2] {
    let now = || guests.map(|guest| guest.session().stats().vcpu_seconds);
    let (before, begun) = (now(), Instant::now());
    thread::sleep(time.saturating_sub(begun.elapsed()));
    let after = now();
    [after[0] - before[0], after[1] - before[1]]
}

/// The part of the CPU time of all slices that begin `after` the first that the machine started first had.
fn part_of_first(slices: &[Slice], after: Duration) -> f64 {
    let Some(first) = slices.first() else { return 0.0 };
    let from = first.begun_ns + after.as_nanos() as u64;
    let entity = slices.iter().map(|slice| slice.entity).min().unwrap_or_default();
    let later = slices.iter().filter(|slice| slice.begun_ns >= from);
    let of = |slice: &Slice| slice.used_ns;
    let all: u64 = later.clone().map(of).sum();
    let own: u64 = later.filter(|slice| slice.entity == entity).map(of).sum();
    own as f64 * 100.0 / all.max(1) as f64
}
