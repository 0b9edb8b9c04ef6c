//! Which rows of a conversation the trace page shows: follows the trace, filters a bounded number of rows at a time.

use std::collections::VecDeque;

use engine::trace::{self, Conversation, Filter, Row, Trace};
use hardware::Space;
use hardware::bus::WindowCount;

/// Events taken per picture: a million are there within a second.
const TAKEN: usize = 40_000;
/// Rows put through a filter per picture; each may have to be put into words.
const FILTERED: u64 = 20_000;

/// The filter as a person writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Device or chip; empty: all.
    pub device: String,
    /// Addresses.
    pub range: String,
    /// Words.
    pub text: String,
    /// Leaves out interrupts, timers and slices.
    pub accesses_only: bool,
}

impl Query {
    /// As the trace takes it; a range that is none lets everything through ([`Query::is_range_wrong`]).
    pub fn filter(&self) -> Filter {
        Filter {
            device: self.device.clone(),
            range: trace::range(&self.range),
            text: self.text.trim().to_owned(),
            accesses_only: self.accesses_only,
        }
    }

    /// The range cannot be read.
    pub fn is_range_wrong(&self) -> bool {
        !self.range.trim().is_empty() && trace::range(&self.range).is_none()
    }

    /// Where the machine stops at the next access that passes, as `ctl break add` takes it: in the range, else
    /// wherever the device is mapped.
    pub fn conditions(&self, windows: &[WindowCount]) -> Vec<String> {
        let written = |space: Space, first: u64, last: u64| match space {
            Space::Port if first == last => format!("port {first:#x} access"),
            Space::Port => format!("port {first:#x}-{last:#x} access"),
            Space::Memory => format!("physical {first:#x} {} access", last - first + 1),
        };
        if let Some(range) = trace::range(&self.range) {
            let space = if *range.end() <= u64::from(u16::MAX) { Space::Port } else { Space::Memory };
            return vec![written(space, *range.start(), *range.end())];
        }
        let of_device =
            windows.iter().filter(|window| !self.device.is_empty() && window.device == self.device);
        let condition = |window: &WindowCount| {
            let first = window.base?;
            Some(written(window.space, first, first + window.length.checked_sub(1)?))
        };
        of_device.filter_map(condition).collect()
    }

    /// As options of `ctl trace`.
    pub fn options(&self) -> String {
        let option = |name: &str, value: &str| match value.trim() {
            "" => String::new(),
            value if value.contains(' ') => format!(" --{name} '{value}'"),
            value => format!(" --{name} {value}"),
        };
        let accesses = if self.accesses_only { " --accesses-only".to_owned() } else { String::new() };
        [option("device", &self.device), option("range", &self.range), option("text", &self.text), accesses]
            .concat()
    }
}

/// A view on one machine's trace.
#[derive(Default)]
pub struct TraceView {
    /// What is to be shown.
    pub query: Query,
    conversation: Conversation,
    /// The filter that `matches` are of.
    filter: Filter,
    /// Numbers of rows that pass.
    matches: VecDeque<u64>,
    /// Rows before this number went through the filter.
    filtered: u64,
    busy: bool,
}

impl TraceView {
    /// Takes what has come, and filters it; bounded work.
    pub fn follow(&mut self, trace: &Trace) {
        let more = self.conversation.follow(trace, TAKEN);
        let filter = self.query.filter();
        let (first, end) = self.conversation.numbers();
        if filter != self.filter {
            self.filter = filter;
            self.matches.clear();
            self.filtered = first;
        }
        while self.matches.front().is_some_and(|number| *number < first) {
            self.matches.pop_front();
        }
        self.filtered = self.filtered.max(first);
        let until = end.min(self.filtered + FILTERED);
        if !self.filter.is_open() {
            // The last row may still grow: it is looked at again.
            for number in self.filtered..until {
                let row = self.conversation.row(number);
                if row.is_some_and(|row| self.filter.lets(trace, row)) {
                    self.matches.push_back(number);
                }
            }
        }
        self.filtered = until;
        self.busy = more || until < end;
    }

    /// Rows to show.
    pub fn len(&self) -> usize {
        if self.filter.is_open() { self.conversation.rows().len() } else { self.matches.len() }
    }

    /// The `index`th of them.
    pub fn row(&self, index: usize) -> Option<&Row> {
        match self.filter.is_open() {
            true => self.conversation.rows().get(index),
            false => self.conversation.row(*self.matches.get(index)?),
        }
    }

    /// All rows kept.
    pub fn total(&self) -> usize {
        self.conversation.rows().len()
    }

    /// Events lost because they came faster than they could be taken.
    pub fn missed(&self) -> u64 {
        self.conversation.missed()
    }

    /// Whether there is more to take or filter.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Forgets what was taken.
    pub fn clear(&mut self) {
        self.conversation.clear();
        self.matches.clear();
    }
}

#[cfg(test)]
mod tests {
    use engine::trace::What;

    use super::*;
    use crate::running::Running;
    use crate::running::fake::Fake;

    #[test]
    fn a_device_or_a_range_is_somewhere_to_stop() {
        let window = |device: &str, space, base, length| WindowCount {
            device: device.into(),
            number: 0,
            space,
            base,
            length,
            reads: 0,
            writes: 0,
            read_ns: 0,
            write_ns: 0,
        };
        let windows = [
            window("8254", Space::Port, Some(0x40), 4),
            window("8254", Space::Port, Some(0x61), 1),
            window("vga", Space::Memory, Some(0xA0000), 0x20000),
            window("e1000", Space::Memory, None, 0x20000),
        ];
        let of = |device: &str, range: &str| {
            Query { device: device.into(), range: range.into(), ..Query::default() }.conditions(&windows)
        };
        assert_eq!(of("8254", ""), ["port 0x40-0x43 access", "port 0x61 access"]);
        assert_eq!(of("vga", ""), ["physical 0xa0000 131072 access"]);
        assert_eq!(of("8254", "0x3f8-0x3ff"), ["port 0x3f8-0x3ff access"]);
        assert_eq!(of("", "0xfee00300"), ["physical 0xfee00300 1 access"]);
        assert!(of("", "").is_empty() && of("e1000", "").is_empty() && of("8254", "com1").len() == 2);
    }

    #[test]
    fn a_million_events_are_taken_and_filtered_in_bounded_steps() {
        let fake = Fake::new("one");
        fake.set_trace(true);
        let trace = fake.trace();
        for n in 0..1_000_000_u64 {
            trace.push(n, None, What::Raised { line: (n % 16) as u8 });
        }
        let mut view = TraceView::default();
        view.follow(&trace);
        assert!(view.is_busy() && view.len() == TAKEN);
        for _ in 0..60 {
            view.follow(&trace);
        }
        assert_eq!((view.len(), view.is_busy()), (1_000_000, false));
        view.query.text = "line 7 rises".into();
        view.follow(&trace);
        assert!(view.is_busy());
        for _ in 0..60 {
            view.follow(&trace);
        }
        assert_eq!((view.len(), view.total()), (62_500, 1_000_000));
        assert_eq!(view.row(1).unwrap().event.what, What::Raised { line: 7 });
        view.query = Query::default();
        view.follow(&trace);
        assert_eq!(view.len(), 1_000_000);
        view.clear();
        assert_eq!(view.len(), 0);
    }

    #[test]
    fn a_query_is_an_option_of_the_command_line_too() {
        let query = Query { device: "8254".into(), text: "mode 2".into(), ..Query::default() };
        assert_eq!(query.options(), " --device 8254 --text 'mode 2'");
        assert!(Query { range: "com1".into(), ..Query::default() }.is_range_wrong());
        assert!(!Query { range: " ".into(), ..Query::default() }.is_range_wrong());
    }
}
