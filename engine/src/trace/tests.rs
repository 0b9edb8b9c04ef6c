//! A trace is written, followed, filtered and exported, with a bus and without a machine.

use hardware::bus::{Traced, WindowCount};
use hardware::{Clock, Space, Width};
use serde_json::json;

use super::*;

fn window(device: &str, number: u8) -> WindowCount {
    WindowCount {
        device: device.into(),
        number,
        space: Space::Port,
        base: None,
        length: 8,
        reads: 0,
        writes: 0,
        read_ns: 0,
        write_ns: 0,
    }
}

fn trace() -> Arc<Trace> {
    let windows = [window("8254", 0), window("com1", 0), window("ide", 0)];
    let trace = Trace::new(Clock::manual(), &windows, vec!["interrupts".into(), "8254".into()]);
    trace.switch(true);
    trace
}

fn access(address: u64, value: u64, write: bool, lane: usize, base: u64) -> Traced {
    let window = Some((lane, address - base));
    Traced { space: Space::Port, address, width: Width::Byte, value, write, cpu: 0, window }
}

/// A vCPU that keeps its accesses until they are taken.
#[derive(Default)]
struct Keeper(Mutex<Vec<Event>>);

impl Writer for Keeper {
    fn drain(&self, into: &mut Vec<Event>) {
        into.append(&mut self.0.lock());
    }
}

#[test]
fn what_waits_comes_in_order_and_before_what_follows_from_it() {
    let trace = trace();
    let keepers: [Arc<Keeper>; 2] = Default::default();
    keepers.iter().for_each(|keeper| trace.take_from(keeper.clone()));
    let keep = |cpu: usize, at_ns| {
        let access = Traced { cpu, ..access(0x43, 0x34, true, 0, 0x40) };
        keepers[cpu].0.lock().push(Event::access(at_ns, &access));
    };
    keep(0, 5);
    keep(1, 3);
    keep(0, 7);
    assert_eq!(trace.standing().events, 3, "whoever looks sees all there is");
    keep(1, 8);
    trace.push(9, None, What::Raised { line: 0 });
    let order: Vec<(u64, u8)> =
        trace.read(0, 9).events.iter().map(|event| (event.at_ns, event.cpu)).collect();
    assert_eq!(order, [(3, 1), (5, 0), (7, 0), (8, 1), (9, Event::NO_CPU)]);
}

fn lines(trace: &Trace, filter: &Filter) -> Vec<String> {
    let mut conversation = Conversation::default();
    assert!(!conversation.follow(trace, usize::MAX));
    let words = |row: &Row| {
        let (who, what) = row.words(trace);
        format!("{who}: {what}")
    };
    conversation.rows().iter().filter(|row| filter.lets(trace, row)).map(words).collect()
}

#[test]
fn nothing_is_taken_while_it_is_off() {
    let trace = trace();
    trace.switch(false);
    trace.access(access(0x43, 0x34, true, 0, 0x40));
    assert_eq!(trace.standing(), Standing::default());
    trace.switch(true);
    trace.access(access(0x43, 0x34, true, 0, 0x40));
    assert_eq!(trace.standing().events, 1);
}

#[test]
fn the_conversation_speaks_and_folds_polls() {
    let trace = trace();
    trace.access(access(0x43, 0x34, true, 0, 0x40));
    trace.access(access(0x40, 0x9C, true, 0, 0x40));
    trace.access(access(0x40, 0x2E, true, 0, 0x40));
    (0..1204).for_each(|_| trace.access(access(0x3FD, 0x00, false, 1, 0x3F8)));
    trace.access(access(0x3F8, 0x48, true, 1, 0x3F8));
    trace.access(access(0x3F8, 0x69, true, 1, 0x3F8));
    trace.note(None, What::Raised { line: 0 });
    trace.note(Some(0), What::Acknowledged { vector: 8 });
    trace.note(None, What::TimerEdge { alarm: 1, late_ns: 43_210 });
    trace.note(Some(1), What::Slice { ran_ns: 1500, end: SliceEnding::Halted });
    assert_eq!(
        lines(&trace, &Filter::default()),
        [
            "8254: channel 0, mode 2, low then high byte",
            "8254: channel 0, count, low byte 0x9c",
            "8254: channel 0, count, high byte 0x2e",
            "16550: status 0x00, busy, read 1,204 times",
            "16550: sends 'H'",
            "16550: sends 'i'",
            "interrupt: line 0 rises",
            "interrupt: CPU 0 takes vector 0x08",
            "timer: 8254 is due, 43.2 µs late",
            "CPU 1: ran 1.5 µs, halted",
        ]
    );
    let only = |filter: Filter| lines(&trace, &filter).len();
    assert_eq!(only(Filter { device: "8254".into(), ..Filter::default() }), 4, "its alarm too");
    assert_eq!(only(Filter { device: "16550".into(), ..Filter::default() }), 3, "by the chip's name");
    assert_eq!(only(Filter { range: range("0x40-0x43"), ..Filter::default() }), 3);
    assert_eq!(only(Filter { text: "SENDS".into(), ..Filter::default() }), 2);
    assert_eq!(only(Filter { text: "out 0x3f8".into(), ..Filter::default() }), 2);
    assert_eq!(only(Filter { accesses_only: true, ..Filter::default() }), 6);
}

#[test]
fn a_stream_of_words_is_one_line_that_says_so() {
    let trace = trace();
    for value in [1, 2, 3] {
        let data = Traced { width: Width::Word, ..access(0x1F0, value, false, 2, 0x1F0) };
        trace.access(data);
    }
    assert_eq!(lines(&trace, &Filter::default()), ["IDE 0: data = 0x0003, the last of 3 reads"]);
}

#[test]
fn memory_is_bounded_and_a_slow_reader_learns_what_it_missed() {
    let trace = trace();
    let more = 1000;
    for n in 0..CAPACITY as u64 + more {
        trace.push(n, None, What::Raised { line: (n % 16) as u8 });
    }
    let standing = trace.standing();
    assert_eq!((standing.events, standing.kept), (CAPACITY as u64 + more, CAPACITY as u64));
    assert!(standing.memory_bytes <= 64 << 20, "{}", standing.memory_bytes);
    let batch = trace.read(10, 5);
    assert_eq!((batch.first, batch.missed, batch.next), (more, more - 10, more + 5));
    assert_eq!(batch.events[0].at_ns, more);
    let mut conversation = Conversation::default();
    conversation.follow(&trace, usize::MAX);
    assert_eq!((conversation.missed(), conversation.rows().len()), (more, CAPACITY));
    let end = trace.read(u64::MAX, 5);
    assert_eq!((end.events.len(), end.next), (0, standing.events));
    trace.clear();
    assert_eq!((trace.standing().kept, trace.standing().memory_bytes), (0, 0));
    trace.push(7, None, What::Raised { line: 1 });
    conversation.follow(&trace, usize::MAX);
    assert_eq!(conversation.rows().back().unwrap().event.at_ns, 7);
}

#[test]
fn what_is_exported_is_what_perfetto_reads() {
    let trace = trace();
    trace.push(2000, Some(0), What::Slice { ran_ns: 1500, end: SliceEnding::Halted });
    trace.access(access(0x43, 0x34, true, 0, 0x40));
    let mut bytes = Vec::new();
    assert_eq!(export(&trace, "a \"machine\"", &Filter::default(), &mut bytes).unwrap(), 2);
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    assert_eq!(events[0]["args"]["name"], "a \"machine\"");
    assert_eq!(
        (&events[1]["ph"], &events[1]["ts"], &events[1]["dur"]),
        (&json!("X"), &json!(0.5), &json!(1.5))
    );
    assert_eq!(events[2]["name"], "channel 0, mode 2, low then high byte");
    assert_eq!(events[2]["args"]["access"], "out 0x43, 0x34");
    let names: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").collect();
    assert_eq!(names.len(), 2, "a lane for the chip and one for the vCPU");
}

#[test]
fn ranges_are_written_as_people_do() {
    assert_eq!(range("0x60"), Some(0x60..=0x60));
    assert_eq!(range("3f8-3FF"), Some(0x3F8..=0x3FF));
    assert!(range("ff-0").is_none() && range("").is_none() && range("com1").is_none());
}
