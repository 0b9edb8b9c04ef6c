//! The trace as a conversation: one row for each thing said, polls folded into one, each row put into words when it is
//! looked at.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use hardware::Width;
use hardware::spoken::{self, Access, Context};

use super::{CAPACITY, Event, Trace, What};

/// Events taken in one go: the ring's lock is held that long.
const TAKEN_AT_ONCE: usize = 4096;

/// One line: an event, or several that say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Number of the first event.
    pub number: u64,
    /// The latest event of this row; its value is the latest.
    pub event: Event,
    /// Guest time of the first, in nanoseconds.
    pub begun_ns: u64,
    /// How many there were.
    pub count: u32,
    /// Whether their values differ.
    pub varied: bool,
    /// What its words depend on ([`Context`]).
    context: u32,
}

/// Which rows to show. Empty fields let everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Part of the device's or chip's name.
    pub device: String,
    /// Addresses, as [`super::range`] reads them; accesses only.
    pub range: Option<RangeInclusive<u64>>,
    /// Part of the words.
    pub text: String,
    /// Leaves out what is no access: interrupts, timers, slices.
    pub accesses_only: bool,
}

/// A reader that follows a trace.
#[derive(Default)]
pub struct Conversation {
    context: Context,
    rows: VecDeque<Row>,
    /// Rows that were dropped: the number of the first kept.
    dropped: u64,
    cursor: u64,
    missed: u64,
}

impl Conversation {
    /// Takes what has come since, at most `most` events; says whether there is more.
    pub fn follow(&mut self, trace: &Trace, most: usize) -> bool {
        let mut taken = 0;
        while taken < most {
            let batch = trace.read(self.cursor, TAKEN_AT_ONCE.min(most - taken));
            self.missed += batch.missed;
            self.cursor = batch.next;
            taken += batch.events.len();
            for (number, event) in (batch.first..).zip(&batch.events) {
                self.take(trace, number, *event);
            }
            if batch.events.is_empty() {
                return false;
            }
        }
        true
    }

    fn take(&mut self, trace: &Trace, number: u64, event: Event) {
        let context = access(trace, &event).map_or(0, |access| self.context.follow(&access));
        if let Some(last) = self.rows.back_mut()
            && last.context == context
            && says_the_same(&last.event, &event)
        {
            last.varied |= last.event.what != event.what;
            last.event = event;
            last.count = last.count.saturating_add(1);
            return;
        }
        if self.rows.len() == CAPACITY {
            self.rows.pop_front();
            self.dropped += 1;
        }
        let begun_ns = event.at_ns;
        self.rows.push_back(Row { number, event, begun_ns, count: 1, varied: false, context });
    }

    /// All rows kept, oldest first.
    pub fn rows(&self) -> &VecDeque<Row> {
        &self.rows
    }

    /// The row of this number, counted from the first of all.
    pub fn row(&self, number: u64) -> Option<&Row> {
        self.rows.get(usize::try_from(number.checked_sub(self.dropped)?).ok()?)
    }

    /// Numbers of the first row kept and of the one after the last.
    pub fn numbers(&self) -> (u64, u64) {
        (self.dropped, self.dropped + self.rows.len() as u64)
    }

    /// Events that were gone before they could be taken.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Forgets all rows; what is taken next follows on.
    pub fn clear(&mut self) {
        self.dropped += self.rows.len() as u64;
        self.rows.clear();
        self.missed = 0;
    }
}

/// Whether two events in a row belong on one line: the same register read again, whatever it answers; the same byte
/// written again; a stream of words to one port.
fn says_the_same(before: &Event, after: &Event) -> bool {
    match (before.what, after.what) {
        (
            What::Access { space, address, width, write, value, .. },
            What::Access {
                space: space_2,
                address: address_2,
                width: width_2,
                write: write_2,
                value: value_2,
                ..
            },
        ) => {
            before.cpu == after.cpu
                && (space, address, width, write) == (space_2, address_2, width_2, write_2)
                && (!write || value == value_2 || width != Width::Byte)
        }
        _ => false,
    }
}

/// The access of an event, with whom it speaks to.
fn access<'a>(trace: &'a Trace, event: &Event) -> Option<Access<'a>> {
    let What::Access { space, address, width, value, write, lane, offset } = event.what else { return None };
    let (device, window) = match trace.lane(lane) {
        Some(lane) => (lane.device.as_str(), lane.window),
        None => ("", 0),
    };
    Some(Access { device, window, offset: u64::from(offset), space, address, width, value, write })
}

impl Row {
    /// The chip, and what it is told or says.
    pub fn words(&self, trace: &Trace) -> (String, String) {
        let said = self.sentence(trace);
        let (who, what) = said.split_once(": ").unwrap_or(("", &said));
        let folded = match (self.count, self.varied, self.event.what) {
            (1, ..) => String::new(),
            (count, false, What::Access { write: false, .. }) => format!(", read {} times", grouped(count)),
            (count, true, What::Access { write: false, .. }) => {
                format!(", the last of {} reads", grouped(count))
            }
            (count, true, _) => format!(", the last of {}", grouped(count)),
            (count, false, _) => format!(", {} times", grouped(count)),
        };
        (who.to_owned(), format!("{what}{folded}"))
    }

    fn sentence(&self, trace: &Trace) -> String {
        let cpu = self.event.cpu;
        match self.event.what {
            What::Access { .. } => access(trace, &self.event)
                .map_or_else(String::new, |access| spoken::speak(&access, self.context)),
            What::Raised { line } => format!("interrupt: line {line} rises"),
            What::Delivered { line, vector } => {
                format!("interrupt: the I/O APIC sends vector 0x{vector:02x} for input {line}")
            }
            What::Acknowledged { vector } => format!("interrupt: CPU {cpu} takes vector 0x{vector:02x}"),
            What::LocalTimer { merged: 0 } => format!("timer: local APIC {cpu} expires"),
            What::LocalTimer { merged } => {
                format!("timer: local APIC {cpu} expires, {merged} merged into it")
            }
            What::TimerEdge { alarm, late_ns } => {
                let name = match trace.alarm(alarm) {
                    "interrupts" => "a local APIC timer",
                    "mc146818" => "the RTC",
                    "hpet" => "the HPET",
                    name => name,
                };
                format!("timer: {name} is due, {} late", lasted(late_ns))
            }
            What::Slice { ran_ns, end } => {
                format!("CPU {cpu}: ran {}, {}", lasted(ran_ns), end.text())
            }
        }
    }

    /// The access as an instruction, if it is one.
    pub fn instruction(&self, trace: &Trace) -> Option<String> {
        access(trace, &self.event).map(|access| access.instruction())
    }

    /// The device's name on the bus.
    pub fn device<'a>(&self, trace: &'a Trace) -> &'a str {
        match self.event.what {
            What::Access { lane, .. } => trace.lane(lane).map_or("nobody", |lane| lane.device.as_str()),
            What::Raised { .. } | What::Delivered { .. } | What::Acknowledged { .. } => "interrupts",
            What::LocalTimer { .. } => "timer",
            What::TimerEdge { alarm, .. } => trace.alarm(alarm),
            What::Slice { .. } => "cpu",
        }
    }
}

impl Filter {
    /// Whether it lets everything through.
    pub fn is_open(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether `row` is to be shown. Words are made only when they are asked about.
    pub fn lets(&self, trace: &Trace, row: &Row) -> bool {
        let What::Access { address, .. } = row.event.what else {
            return !self.accesses_only && self.range.is_none() && self.lets_words(trace, row);
        };
        self.range.as_ref().is_none_or(|range| range.contains(&address)) && self.lets_words(trace, row)
    }

    fn lets_words(&self, trace: &Trace, row: &Row) -> bool {
        let has = |text: &str, part: &str| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        if self.device.is_empty() && self.text.is_empty() {
            return true;
        }
        let words = row.words(trace);
        let device_fits =
            self.device.is_empty() || has(row.device(trace), &self.device) || has(&words.0, &self.device);
        let text_fits = self.text.is_empty()
            || has(&words.0, &self.text)
            || has(&words.1, &self.text)
            || row.instruction(trace).is_some_and(|instruction| has(&instruction, &self.text));
        device_fits && text_fits
    }
}

/// Nanoseconds with the unit that suits them.
fn lasted(ns: u64) -> String {
    match ns as f64 {
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// 1204 as `1,204`.
pub fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
