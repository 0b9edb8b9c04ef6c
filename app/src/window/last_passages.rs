//! The last of each kind of passage: instructions and devices, interrupt lines, slices.

use engine::scheduler::{Scheduler, Slice, SliceEnd};
use hardware::Space;

use super::exit_view::Passage;
use super::timer_view::{duration, ending};
use super::timers_page::line_name;
use crate::running::Running;

/// Lines shown.
const SHOWN: usize = 14;
/// Slices of all machines that are looked through.
const LOOKED_AT: u64 = 1024;

/// The last ones, newest first: what it was, and what that means.
pub fn of(passage: Passage, machine: &dyn Running) -> Vec<(String, String)> {
    match passage {
        Passage::Ports => accesses(machine, |space, _| space == Space::Port),
        Passage::Reads => accesses(machine, |space, write| space == Space::Memory && !write),
        Passage::Writes => accesses(machine, |space, write| space == Space::Memory && write),
        Passage::Interrupts => interrupts(machine),
        Passage::Halts => slices(machine, |end| end == SliceEnd::Parked),
        Passage::Slices => slices(machine, |_| true),
        Passage::Expiries => slices(machine, |end| matches!(end, SliceEnd::Quantum | SliceEnd::Cap)),
        Passage::Kicks => slices(machine, |end| end == SliceEnd::Kicked),
    }
}

/// Of each vCPU, among the last 32 it remembers.
fn accesses(machine: &dyn Running, is_one: impl Fn(Space, bool) -> bool) -> Vec<(String, String)> {
    let cpus = machine.cpus();
    let each = SHOWN.div_ceil(cpus.max(1));
    let of_cpu = |cpu: usize| {
        let accesses = machine.recent_accesses(cpu).into_iter().rev();
        let accesses = accesses.filter(|told| is_one(told.access.space, told.access.write)).take(each);
        let cpu = if cpus > 1 { format!("CPU {cpu}: ") } else { String::new() };
        let line = |told: engine::machine::Told| (told.access.instruction(), format!("{cpu}{}", told.words));
        accesses.map(line).collect::<Vec<_>>()
    };
    (0..cpus).flat_map(of_cpu).collect()
}

/// The lines that have risen, busiest first.
fn interrupts(machine: &dyn Running) -> Vec<(String, String)> {
    let mut lines = machine.stats().interrupts;
    lines.sort_by_key(|line| std::cmp::Reverse(line.delivered));
    let line = |line: engine::stats::LineCount| {
        let told = format!("{} raised, {} delivered", line.raised, line.delivered);
        (format!("line {}, {}", line.line, line_name(line.line)), told)
    };
    lines.into_iter().take(SHOWN).map(line).collect()
}

fn slices(machine: &dyn Running, is_one: impl Fn(SliceEnd) -> bool) -> Vec<(String, String)> {
    let (scheduler, own) = (Scheduler::global(), machine.entity_ids());
    let (_, next) = scheduler.slices_since(u64::MAX);
    let (slices, _) = scheduler.slices_since(next.saturating_sub(LOOKED_AT));
    let now = scheduler.now_ns();
    let line = |slice: &Slice| {
        let ago = now.saturating_sub(slice.begun_ns + slice.lasted_ns);
        let words = format!("{}, {} ago", ending(slice.end), duration(ago as f64));
        (format!("ran {}", duration(slice.used_ns as f64)), words)
    };
    let ours = slices.iter().rev().filter(|slice| own.contains(&slice.entity) && is_one(slice.end));
    ours.take(SHOWN).map(line).collect()
}
