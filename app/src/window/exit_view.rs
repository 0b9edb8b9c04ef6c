//! The picture of the hosted monitor: its parts, what passes between them and how often.
//! Source: Smith and Nair, *Virtual Machines*, §8.3 (hosted virtual machines: VMM-n, VMM-d, VMM-u).

use engine::stats::HandlingSeconds;

use super::samples::History;
use super::timer_view::duration;

/// A part of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The guest's code.
    Guest,
    /// The native monitor: KVM, or the software CPU.
    Native,
    /// The driver: `/dev/kvm`.
    Driver,
    /// The user part: memory, devices, scheduler.
    User,
    /// The host's system.
    Host,
}

/// Something that passes from one part to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Passage {
    /// IN and OUT.
    Ports,
    /// Reads of device memory.
    Reads,
    /// Writes of device memory.
    Writes,
    /// HLT with nothing pending.
    Halts,
    /// Interrupts the guest took.
    Interrupts,
    /// Slices granted.
    Slices,
    /// Slices the quantum timer ended.
    Expiries,
    /// Times the monitor took control back.
    Kicks,
}

/// All of them, in the order of the list.
pub const PASSAGES: [Passage; 8] = [
    Passage::Ports,
    Passage::Reads,
    Passage::Writes,
    Passage::Halts,
    Passage::Interrupts,
    Passage::Slices,
    Passage::Expiries,
    Passage::Kicks,
];

impl Passage {
    /// Its name.
    pub fn text(self) -> &'static str {
        match self {
            Passage::Ports => "port I/O",
            Passage::Reads => "memory reads",
            Passage::Writes => "memory writes",
            Passage::Halts => "halts",
            Passage::Interrupts => "interrupts",
            Passage::Slices => "slices",
            Passage::Expiries => "quantum over",
            Passage::Kicks => "taken back",
        }
    }

    /// What it is, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Passage::Ports => {
                "IN and OUT are sensitive: each leaves the guest, and a device of VMM-u answers"
            }
            Passage::Reads => "a read where no memory is: the bus of VMM-u finds the device",
            Passage::Writes => "a write where no memory is: the bus of VMM-u finds the device",
            Passage::Halts => "HLT with no interrupt pending gives the worker back to the scheduler",
            Passage::Interrupts => "the interrupt controllers of VMM-u had a vector, and the guest took it",
            Passage::Slices => "the scheduler of VMM-u let a vCPU run on a worker, a thread of the host",
            Passage::Expiries => "the host's interval timer ended the slice: control always comes back",
            Passage::Kicks => "the monitor wanted the vCPU back: an interrupt, a command, a quantum",
        }
    }

    /// From where to where.
    pub fn ends(self) -> (Part, Part) {
        match self {
            Passage::Ports | Passage::Reads | Passage::Writes | Passage::Halts => (Part::Guest, Part::Native),
            Passage::Interrupts => (Part::Native, Part::Guest),
            Passage::Slices => (Part::Host, Part::Native),
            Passage::Expiries | Passage::Kicks => (Part::Native, Part::Host),
        }
    }

    /// How often it happens, per second.
    pub fn rate(self, history: &History) -> f64 {
        history.rate(|point| self.count(point) as f64)
    }

    /// How often it happened.
    pub fn total(self, history: &History) -> u64 {
        history.points.back().map_or(0, |point| self.count(point))
    }

    /// The time it takes, in a few words; `None` where nothing is timed or nothing happens.
    pub fn time(self, history: &History) -> Option<String> {
        let cpus = history.latest.cpus.len() as f64;
        let rate = self.rate(history);
        let percent = |part: f64| match part * 100.0 {
            percent if percent < 0.05 => "<0.1 %".to_owned(),
            percent => format!("{percent:.*} %", usize::from(percent < 10.0)),
        };
        let handling = |seconds: fn(&HandlingSeconds) -> f64| {
            let spent = history.rate(|point| seconds(&point.handling));
            (rate >= 0.05 && spent > 0.0)
                .then(|| format!("{}, {}", duration(spent / rate * 1e9), percent(spent / cpus.max(1.0))))
        };
        match self {
            Passage::Ports => handling(|time| time.port),
            Passage::Reads => handling(|time| time.memory_read),
            Passage::Writes => handling(|time| time.memory_write),
            Passage::Halts => {
                let idle = 1.0 - history.rate(|point| point.ran + point.waited) / cpus.max(1.0);
                (rate >= 0.05).then(|| format!("{} idle", percent(idle.clamp(0.0, 1.0))))
            }
            Passage::Slices => {
                let ran = history.rate(|point| point.ran);
                (rate >= 0.05).then(|| format!("{} each", duration(ran / rate * 1e9)))
            }
            Passage::Interrupts | Passage::Expiries | Passage::Kicks => None,
        }
    }

    /// What its time is, to be said after a sentence.
    pub fn time_meaning(self) -> &'static str {
        match self {
            Passage::Ports | Passage::Reads | Passage::Writes => {
                "; the time is what the device takes for one, and for all of them, of the machine's time"
            }
            Passage::Halts => "; the time is what the machine sleeps",
            Passage::Slices => "; the time is how long one lasts",
            Passage::Interrupts | Passage::Expiries | Passage::Kicks => "",
        }
    }

    /// The counter.
    pub fn count(self, point: &super::samples::Point) -> u64 {
        match self {
            Passage::Ports => point.port,
            Passage::Reads => point.reads,
            Passage::Writes => point.writes,
            Passage::Halts => point.halts,
            Passage::Interrupts => point.interrupts,
            Passage::Slices => point.slices,
            Passage::Expiries => point.expiries,
            Passage::Kicks => point.kicks,
        }
    }
}

/// A rate as a person reads it: `0`, `18.2`, `1,204`, `3.21 M`.
pub fn per_second(rate: f64) -> String {
    match rate {
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 100.0 => format!("{rate:.1}"),
        rate if rate < 1e6 => engine::trace::grouped(rate.round() as u32),
        rate if rate < 1e9 => format!("{:.2} M", rate / 1e6),
        rate => format!("{:.2} G", rate / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Point;
    use super::*;

    #[test]
    fn rates_are_short_and_exact_enough() {
        assert_eq!(
            [0.0, 18.206, 1203.6, 3_210_000.0, 4.2e9].map(per_second),
            ["0", "18.2", "1,204", "3.21 M", "4.20 G"]
        );
    }

    #[test]
    fn times_are_for_each_passage_and_of_all_time() {
        let mut history = History::default();
        let point = |at: f64| Point {
            at,
            port: (at * 1000.0) as u64,
            halts: (at * 10.0) as u64,
            ran: at * 0.25,
            waited: at * 0.25,
            slices: (at * 100.0) as u64,
            handling: HandlingSeconds { port: at * 0.002, ..HandlingSeconds::default() },
            ..Point::default()
        };
        history.points = [0.0, 0.5, 1.0].map(point).into();
        let time = |passage: Passage| passage.time(&history);
        assert_eq!(time(Passage::Ports).as_deref(), Some("2.0 µs, 0.2 %"));
        assert_eq!(time(Passage::Halts).as_deref(), Some("50 % idle"));
        assert_eq!(time(Passage::Slices).as_deref(), Some("2.5 ms each"));
        assert_eq!([Passage::Reads, Passage::Interrupts].map(time), [None, None]);
    }

    #[test]
    fn what_leaves_the_guest_comes_to_the_native_monitor() {
        assert!(PASSAGES.iter().all(|passage| passage.ends().0 != passage.ends().1));
        assert_eq!(Passage::Ports.ends(), (Part::Guest, Part::Native));
        assert_eq!(Passage::Interrupts.ends(), (Part::Native, Part::Guest));
    }
}
