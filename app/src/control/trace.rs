//! `ctl trace`: the conversation between the guest and its devices, from outside.

use engine::trace::{self, Conversation, Filter, Row, Trace};
use serde_json::{Value, json};

use super::Answer;
use super::command::{TraceAct, TraceFilter};
use crate::outputs;
use crate::running::Running;

/// Most lines of one answer.
const MOST_LINES: usize = 100_000;

/// Does what is asked with the trace of `machine`.
pub fn trace(name: &str, machine: &dyn Running, act: &TraceAct) -> Result<Answer, String> {
    match act {
        TraceAct::On | TraceAct::Off => machine.set_trace(*act == TraceAct::On),
        TraceAct::Clear => machine.trace().clear(),
        TraceAct::Status => return status(&machine.trace()),
        TraceAct::Tail { count, filter } => return tail(&machine.trace(), *count, &filter.parsed()?),
        TraceAct::Export { path, filter } => {
            let (trace, filter) = (machine.trace(), filter.parsed()?);
            let count = outputs::write_with(path, |file| trace::export(&trace, name, &filter, file))?;
            return Answer::new(format!("{count} events written"), json!({ "events": count }));
        }
    }
    Ok(Answer::done())
}

impl TraceFilter {
    /// As the trace takes it.
    pub fn parsed(&self) -> Result<Filter, String> {
        let wrong = |text: &str| format!("'{text}' is no range of addresses; write for example 0x3f8-0x3ff");
        let range = self.range.as_deref().map(|text| trace::range(text).ok_or_else(|| wrong(text)));
        Ok(Filter {
            device: self.device.clone().unwrap_or_default(),
            range: range.transpose()?,
            text: self.text.clone().unwrap_or_default(),
            accesses_only: self.accesses_only,
        })
    }
}

fn status(trace: &Trace) -> Result<Answer, String> {
    let standing = trace.standing();
    let text = format!(
        "{}, {} events taken, {} kept in {} MiB; devices: {}",
        if standing.on { "on" } else { "off" },
        standing.events,
        standing.kept,
        standing.memory_bytes >> 20,
        trace.devices().join(", ")
    );
    Answer::new(text, json!({ "standing": standing, "devices": trace.devices() }))
}

fn tail(trace: &Trace, count: usize, filter: &Filter) -> Result<Answer, String> {
    let mut conversation = Conversation::default();
    conversation.follow(trace, trace::CAPACITY);
    let mut rows: Vec<&Row> = conversation
        .rows()
        .iter()
        .rev()
        .filter(|row| filter.lets(trace, row))
        .take(count.min(MOST_LINES))
        .collect();
    rows.reverse();
    if rows.is_empty() && !trace.is_on() {
        let hint = "the trace is off; `vitrine ctl trace on` switches it on";
        return Answer::new(hint, json!([]));
    }
    let line = |row: &&Row| {
        let (who, what) = row.words(trace);
        let access = row.instruction(trace).unwrap_or_default();
        let (seconds, rest) = (row.event.at_ns / 1_000_000_000, row.event.at_ns % 1_000_000_000 / 1000);
        format!("{seconds:>4}.{rest:06}  {access:<28}  {who:<14} {what}")
    };
    let fact = |row: &&Row| -> Value {
        let (who, what) = row.words(trace);
        json!({
            "at_ns": row.event.at_ns,
            "number": row.number,
            "count": row.count,
            "device": row.device(trace),
            "chip": who,
            "words": what,
            "access": row.instruction(trace),
        })
    };
    let facts: Vec<Value> = rows.iter().map(fact).collect();
    Answer::new(rows.iter().map(line).collect::<Vec<_>>().join("\n"), facts)
}

#[cfg(test)]
mod tests {
    use hardware::bus::Traced;
    use hardware::{Space, Width};

    use super::*;
    use crate::running::fake::Fake;

    fn program_the_8254(fake: &Fake) {
        for (address, value) in [(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)] {
            fake.trace().access(Traced {
                space: Space::Port,
                address,
                width: Width::Byte,
                value,
                write: true,
                cpu: 0,
                window: Some((0, address - 0x40)),
            });
        }
    }

    #[test]
    fn a_trace_is_switched_on_read_filtered_and_exported() {
        let fake = Fake::new("one");
        let tail = TraceAct::Tail { count: 2, filter: TraceFilter::default() };
        program_the_8254(&fake);
        assert!(trace("one", &*fake, &tail).unwrap().text.contains("trace on"), "it says what to do");
        trace("one", &*fake, &TraceAct::On).unwrap();
        program_the_8254(&fake);
        let answer = trace("one", &*fake, &tail).unwrap();
        assert_eq!(answer.json[1]["words"], "channel 0, count, high byte 0x2e");
        assert_eq!(answer.text.lines().count(), 2);
        assert!(answer.text.contains("out 0x40, 0x2e"), "{}", answer.text);
        let filter = TraceFilter { range: Some("0x43".into()), ..TraceFilter::default() };
        let one = trace("one", &*fake, &TraceAct::Tail { count: 9, filter }).unwrap();
        assert_eq!(one.json.as_array().unwrap().len(), 1);
        let filter = TraceFilter { range: Some("com1".into()), ..TraceFilter::default() };
        assert!(trace("one", &*fake, &TraceAct::Tail { count: 9, filter }).unwrap_err().contains("0x3f8"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let export = TraceAct::Export { path: path.clone(), filter: TraceFilter::default() };
        assert_eq!(trace("one", &*fake, &export).unwrap().json["events"], 3);
        let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(json["traceEvents"].as_array().unwrap().len() > 3);
        trace("one", &*fake, &TraceAct::Off).unwrap();
        assert!(trace("one", &*fake, &TraceAct::Status).unwrap().text.starts_with("off, 3 events"));
    }
}
