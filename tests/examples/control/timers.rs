//! The truth about timers: every tick that came due was delivered or merged, the guest's count agrees, and guest time
//! is wall time.

use std::time::Duration;

use engine::profile::LostTicks;
use machine_tests::ticks::Program;

use crate::Findings;

/// How long each timer ticks.
const LASTS: Duration = Duration::from_secs(3);
/// How long guest time is compared with the host's.
const IDLE: Duration = Duration::from_secs(60);

pub fn measure(findings: &mut Findings) {
    println!("timers: on the software CPU, {} s each", LASTS.as_secs());
    println!(
        "  {:<12} {:>9} {:>8} {:>8} {:>9} {:>9} {:>7} {:>7}  lateness (us): p50, p99, max",
        "timer", "Hz", "policy", "guest", "raised", "delivered", "merged", "replay"
    );
    let pit = |mode| [65_535, 11_932, 1_193, 119].map(|count| Program::Pit { mode, count });
    let rtc = [11, 9, 6, 3].map(|rate| Program::Rtc { rate });
    let apic = [54_925_000, 10_000_000, 1_000_000, 100_000].map(|period_ns| Program::Apic { period_ns });
    let programs = [pit(2), pit(3), rtc, apic].concat();
    for policy in [LostTicks::Merge, LostTicks::Replay] {
        let wrong: Vec<String> = programs.iter().filter_map(|program| run(*program, policy).err()).collect();
        let found = format!("{} of {}", programs.len() - wrong.len(), programs.len());
        wrong.iter().for_each(|reason| println!("  {reason}"));
        let what = format!("{policy:?}: raised = delivered + merged (+ withdrawn), as the guest counts");
        findings.note(&what, found, "all", wrong.is_empty());
    }
    let outcome = Program::Pit { mode: 2, count: 11_932 }.run(IDLE, LostTicks::Merge);
    let (guest, wall) = (outcome.passed_ns as f64 / 1e9, outcome.wall.as_secs_f64());
    let apart = (guest - wall).abs() / wall * 100.0;
    let found = format!("{guest:.3} s, {wall:.3} s");
    findings.note("guest time and wall time, 60 s idle", found, "apart 0.1 %", apart <= 0.1);
}

fn run(program: Program, policy: LostTicks) -> Result<(), String> {
    let outcome = program.run(LASTS, policy);
    let (timer, us) = (&outcome.timer, |ns: u64| ns as f64 / 1e3);
    println!(
        "  {:<12} {:>9.1} {:>8} {:>8} {:>9} {:>9} {:>7} {:>7}  {:.0}, {:.0}, {:.0}",
        program.name(),
        program.hz(),
        format!("{policy:?}"),
        outcome.ticks,
        timer.raised,
        timer.delivered,
        timer.merged,
        timer.replayed,
        us(timer.lateness.p50_ns),
        us(timer.lateness.p99_ns),
        us(timer.lateness.max_ns),
    );
    outcome.check(program)
}
