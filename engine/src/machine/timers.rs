//! The guest's timers as the timer scope and `ctl timers` show them: what each is programmed to, when it is next due,
//! what became of its ticks, and how late they came.

use std::sync::Arc;

use hardware::Shared;
use hardware::chipset::power::{PowerManagement, TIMER_BITS, TIMER_HZ, TIMER_TURN};
use hardware::interrupts::{Fabric, InterruptCounts, Lapic, Lvt, TimerMode};
use hardware::timers::TickCounts;
use hardware::timers::hpet::{self, Hpet};
use hardware::timers::pit::{HZ, Pit};
use hardware::timers::rtc::Rtc;
use serde::Serialize;

use hardware::histogram::Summary as LatenessSummary;

/// One guest timer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timer {
    /// Which: "8254 channel 0", "RTC", "HPET timer 0", "ACPI PM timer", "local APIC 1".
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

impl Timer {
    /// One that is not programmed to anything, with what became of its ticks.
    fn new(name: String, mode: &str, counts: TickCounts) -> Timer {
        let TickCounts { raised, delivered, replayed, merged, owed, withdrawn } = counts;
        Timer {
            name,
            mode: mode.to_owned(),
            period_ns: None,
            next_ns: None,
            raised,
            delivered,
            merged,
            replayed,
            owed,
            withdrawn,
            acknowledged: None,
            lateness: LatenessSummary::default(),
        }
    }
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
const POWER: &str = "ACPI PM timer";

fn pit_name(channel: usize) -> String {
    format!("8254 channel {channel}")
}

fn hpet_name(index: usize) -> String {
    format!("HPET timer {index}")
}

fn apic_name(cpu: usize) -> String {
    format!("local APIC {cpu}")
}

/// The timers of a board.
#[derive(Clone)]
pub struct Timers {
    /// The 8254, where it is ours.
    pub pit: Option<Shared<Pit>>,
    /// The RTC.
    pub rtc: Shared<Rtc>,
    /// The HPET, where there is one.
    pub hpet: Option<Shared<Hpet>>,
    /// What has the ACPI PM timer.
    pub power: Shared<PowerManagement>,
    /// What has the local APICs, where they are ours.
    pub fabric: Option<Arc<Fabric>>,
    /// Their alarms.
    pub alarms: Alarms,
}

/// The alarms of the timers, by id.
#[derive(Clone, Copy)]
pub struct Alarms {
    /// Of the 8254, where it is ours.
    pub pit: Option<usize>,
    /// Of the RTC.
    pub rtc: usize,
    /// Of the HPET, where there is one.
    pub hpet: Option<usize>,
    /// Of power management.
    pub power: usize,
    /// Of the interrupt controllers.
    pub fabric: usize,
}

impl Timers {
    /// All of them; `late` tells how late the device of an alarm was called.
    pub fn list(&self, now_ns: u64, late: impl Fn(usize) -> LatenessSummary) -> Vec<Timer> {
        let (mut all, alarms) = (Vec::new(), &self.alarms);
        if let (Some(pit), Some(alarm)) = (&self.pit, alarms.pit) {
            all.extend(of_pit(&pit.lock(), now_ns, late(alarm)));
        }
        all.push(of_rtc(&self.rtc.lock(), now_ns, late(alarms.rtc)));
        if let (Some(hpet), Some(alarm)) = (&self.hpet, alarms.hpet) {
            all.extend(of_hpet(&hpet.lock(), late(alarm)));
        }
        all.push(of_power(&self.power.lock(), late(alarms.power)));
        if let Some(fabric) = &self.fabric {
            let (state, counts) = (fabric.state(), fabric.counts());
            let of_apic = |(cpu, lapic)| of_apic(cpu, lapic, &counts, late(alarms.fabric));
            all.extend(state.lapics.iter().enumerate().map(of_apic));
        }
        all
    }

    /// How often each timer that can interrupt has ticked so far, by its name.
    pub fn ticks(&self) -> Vec<(String, u64)> {
        let mut ticks: Vec<(String, u64)> =
            self.pit.iter().map(|pit| (pit_name(0), pit.lock().counts().raised)).collect();
        ticks.push((RTC.to_owned(), self.rtc.lock().counts().raised));
        if let Some(hpet) = &self.hpet {
            let hpet = hpet.lock();
            ticks.extend((0..hpet::TIMERS).map(|index| (hpet_name(index), hpet.counts(index).raised)));
        }
        ticks.push((POWER.to_owned(), self.power.lock().counts().raised));
        let of_apics = self.fabric.as_ref().map(|fabric| fabric.counts().timers).unwrap_or_default();
        ticks.extend(of_apics.iter().enumerate().map(|(cpu, count)| (apic_name(cpu), count.raised)));
        ticks
    }
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
        let mode = count.map_or("off", |_| COUNTER_MODES[usize::from(counter.mode()).min(5)]);
        Some(Timer {
            period_ns: period_ns.map(|count| f64::from(count) * 1e9 / HZ as f64),
            next_ns: pit.chip().next_edge(now_ns).filter(|_| is_first),
            lateness: if is_first { lateness } else { LatenessSummary::default() },
            ..Timer::new(pit_name(index), mode, counts)
        })
    };
    (0..3).filter_map(timer).collect()
}

/// The RTC's periodic interrupt, IRQ 8.
pub fn of_rtc(rtc: &Rtc, now_ns: u64, lateness: LatenessSummary) -> Timer {
    let (counts, period_ns) = (rtc.counts(), rtc.chip().periodic_ns());
    let mode = if period_ns.is_some() { "periodic" } else { "off" };
    Timer {
        period_ns,
        next_ns: rtc.chip().deadline(now_ns),
        lateness,
        ..Timer::new(RTC.to_owned(), mode, counts)
    }
}

/// The HPET's comparators. They share one alarm, and so how late it was.
pub fn of_hpet(hpet: &Hpet, lateness: LatenessSummary) -> Vec<Timer> {
    let timer = |index: usize| {
        let comparator = hpet.chip().timer(index)?;
        let is_on = hpet.chip().interrupts(index);
        let kind = if comparator.is_periodic() { "periodic" } else { "one-shot" };
        let trigger = if comparator.is_level() { "level" } else { "edge" };
        let counts = hpet.counts(index);
        let mode = if is_on { format!("{kind}, {trigger}") } else { "off".to_owned() };
        Some(Timer {
            period_ns: hpet.period_ns(index).filter(|_| is_on).map(|ns| ns as f64),
            next_ns: hpet.chip().next_match(index),
            lateness: if counts.raised > 0 { lateness } else { LatenessSummary::default() },
            ..Timer::new(hpet_name(index), &mode, counts)
        })
    };
    (0..hpet::TIMERS).filter_map(timer).collect()
}

/// The ACPI PM timer: it always counts, and interrupts when its top bit changes, if the guest wants that.
pub fn of_power(power: &PowerManagement, lateness: LatenessSummary) -> Timer {
    let (counts, interrupts) = (power.counts(), power.chip().timer_interrupts());
    let mode = format!("counts, {TIMER_BITS} bits, {} MHz", TIMER_HZ as f64 / 1e6);
    Timer {
        period_ns: interrupts.then(|| TIMER_TURN as f64 * 1e9 / TIMER_HZ as f64),
        next_ns: power.chip().next_deadline().filter(|_| interrupts),
        lateness,
        ..Timer::new(POWER.to_owned(), &mode, counts)
    }
}

/// A local APIC's timer.
pub fn of_apic(cpu: usize, lapic: &Lapic, counts: &InterruptCounts, lateness: LatenessSummary) -> Timer {
    let timer = lapic.timer();
    let is_masked = lapic.lvt(Lvt::Timer) >> 16 & 1 != 0;
    let periodic = matches!(timer.mode(), TimerMode::Periodic) && timer.initial() != 0;
    let mode = if is_masked { "off" } else { timer.mode().name() };
    let ticks = counts.timers.get(cpu).copied().unwrap_or_default();
    let vector = (lapic.lvt(Lvt::Timer) & 0xFF) as usize;
    Timer {
        period_ns: periodic.then(|| timer.period_ns() as f64),
        next_ns: timer.deadline().filter(|_| !is_masked),
        acknowledged: counts.acknowledged.get(vector).copied(),
        lateness,
        ..Timer::new(apic_name(cpu), mode, ticks)
    }
}
