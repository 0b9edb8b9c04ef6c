//! The guest's timers as the timer scope and `ctl timers` show them: what each is programmed to, when it is next due,
//! what became of its ticks, and how late they came.

use hardware::Shared;
use hardware::interrupts::{Fabric, InterruptCounts, Lapic, Lvt, TimerMode};
use hardware::timers::TickCounts;
use hardware::timers::pit::{HZ, Pit};
use hardware::timers::rtc::Rtc;
use serde::Serialize;

use hardware::histogram::Summary as LatenessSummary;

/// One guest timer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timer {
    /// Which: "8254 channel 0", "RTC", "local APIC 1".
    pub name: String,
    /// Its mode in the datasheet's words; "off" when it does not tick.
    pub mode: String,
    /// Programmed period in guest nanoseconds, if it has one.
    pub period_ns: Option<f64>,
    /// Guest time of the next tick.
    pub next_ns: Option<u64>,
    /// Ticks that came due.
    pub raised: u64,
    /// Ticks that reached the interrupt controllers as requests of their own.
    pub delivered: u64,
    /// Ticks that reached the guest only together with a later one: it, or the host, was late.
    pub merged: u64,
    /// Ticks among those delivered that were replayed: late, one by one.
    pub replayed: u64,
    /// Ticks still to be replayed.
    pub owed: u64,
    /// Ticks that were requests, until the guest stopped the timer before it took them.
    pub withdrawn: u64,
    /// Interrupts of its vector that vCPUs took (local APIC timers).
    pub acknowledged: Option<u64>,
    /// How late the monitor kept its deadlines.
    pub lateness: LatenessSummary,
}

const COUNTER_MODES: [&str; 6] = [
    "0, interrupt on terminal count",
    "1, one-shot by the gate",
    "2, rate generator",
    "3, square wave",
    "4, strobe",
    "5, strobe by the gate",
];

const RTC: &str = "RTC";

fn pit_name(channel: usize) -> String {
    format!("8254 channel {channel}")
}

fn apic_name(cpu: usize) -> String {
    format!("local APIC {cpu}")
}

/// How often each timer that can interrupt has ticked so far, by its name.
pub fn ticks(pit: Option<&Shared<Pit>>, rtc: &Shared<Rtc>, fabric: Option<&Fabric>) -> Vec<(String, u64)> {
    let mut ticks: Vec<(String, u64)> =
        pit.map(|pit| (pit_name(0), pit.lock().counts().raised)).into_iter().collect();
    ticks.push((RTC.to_owned(), rtc.lock().counts().raised));
    let of_apics = fabric.map(|fabric| fabric.counts().timers).unwrap_or_default();
    ticks.extend(of_apics.iter().enumerate().map(|(cpu, count)| (apic_name(cpu), count.raised)));
    ticks
}

/// 8254 channel 0 drives IRQ 0; channels 1 and 2 drive nothing that interrupts.
pub fn of_pit(pit: &Pit, now_ns: u64, lateness: LatenessSummary) -> Vec<Timer> {
    let all = pit.counts();
    let timer = |index: usize| {
        let counter = pit.chip().counter(index)?;
        let count = counter.count();
        let period_ns = count.filter(|_| counter.is_periodic());
        let is_first = index == 0;
        let counts = if is_first { all } else { TickCounts::default() };
        Some(Timer {
            name: pit_name(index),
            mode: match count {
                Some(_) => COUNTER_MODES[usize::from(counter.mode()).min(5)].to_owned(),
                None => "off".to_owned(),
            },
            period_ns: period_ns.map(|count| f64::from(count) * 1e9 / HZ as f64),
            next_ns: pit.chip().next_edge(now_ns).filter(|_| is_first),
            raised: counts.raised,
            delivered: counts.delivered,
            merged: counts.merged,
            replayed: counts.replayed,
            owed: counts.owed,
            withdrawn: counts.withdrawn,
            acknowledged: None,
            lateness: if is_first { lateness } else { LatenessSummary::default() },
        })
    };
    (0..3).filter_map(timer).collect()
}

/// The RTC's periodic interrupt, IRQ 8.
pub fn of_rtc(rtc: &Rtc, now_ns: u64, lateness: LatenessSummary) -> Timer {
    let (counts, period_ns) = (rtc.counts(), rtc.chip().periodic_ns());
    Timer {
        name: RTC.to_owned(),
        mode: if period_ns.is_some() { "periodic" } else { "off" }.to_owned(),
        period_ns,
        next_ns: rtc.chip().deadline(now_ns),
        raised: counts.raised,
        delivered: counts.delivered,
        merged: counts.merged,
        replayed: counts.replayed,
        owed: counts.owed,
        withdrawn: counts.withdrawn,
        acknowledged: None,
        lateness,
    }
}

/// A local APIC's timer.
pub fn of_apic(cpu: usize, lapic: &Lapic, counts: &InterruptCounts, lateness: LatenessSummary) -> Timer {
    let timer = lapic.timer();
    let is_masked = lapic.lvt(Lvt::Timer) >> 16 & 1 != 0;
    let periodic = matches!(timer.mode(), TimerMode::Periodic) && timer.initial() != 0;
    let mode = match timer.mode() {
        _ if is_masked => "off",
        TimerMode::OneShot => "one-shot",
        TimerMode::Periodic => "periodic",
        TimerMode::TscDeadline => "TSC deadline",
        TimerMode::Reserved => "reserved",
    };
    let TickCounts { raised, delivered, replayed, merged, owed, withdrawn } =
        counts.timers.get(cpu).copied().unwrap_or_default();
    let vector = (lapic.lvt(Lvt::Timer) & 0xFF) as usize;
    Timer {
        name: apic_name(cpu),
        mode: mode.to_owned(),
        period_ns: periodic.then(|| timer.period_ns() as f64),
        next_ns: timer.deadline().filter(|_| !is_masked),
        raised,
        delivered,
        merged,
        replayed,
        owed,
        withdrawn,
        acknowledged: counts.acknowledged.get(vector).copied(),
        lateness,
    }
}
