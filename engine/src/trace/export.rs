//! The trace for Perfetto and `chrome://tracing`: the Trace Event Format's JSON, one lane for each chip and each vCPU.
//! Source: Chromium, "Trace Event Format", 2016: complete events (`X`), instant events (`i`), thread names (`M`).

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::json;

use super::{Conversation, Filter, Trace, What};

/// Writes what is kept and passes `filter` as a JSON document; how many events that were. Times are guest
/// microseconds.
pub fn export(trace: &Trace, machine: &str, filter: &Filter, out: &mut dyn Write) -> io::Result<u64> {
    let mut conversation = Conversation::default();
    conversation.follow(trace, super::CAPACITY);
    let mut lanes: BTreeMap<String, usize> = BTreeMap::new();
    let mut written = 0;
    let head = json!({ "name": "process_name", "ph": "M", "pid": 1, "args": { "name": machine } });
    write!(out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{head}")?;
    for row in conversation.rows().iter().filter(|row| filter.lets(trace, row)) {
        let (who, words) = row.words(trace);
        let next = lanes.len() + 1;
        let lane = *lanes.entry(who).or_insert(next);
        let us = |ns: u64| ns as f64 / 1e3;
        let mut args = json!({ "count": row.count });
        if let Some(instruction) = row.instruction(trace) {
            args["access"] = instruction.into();
        }
        if row.event.cpu != super::Event::NO_CPU {
            args["cpu"] = row.event.cpu.into();
        }
        let (begun, lasted) = match row.event.what {
            What::Slice { ran_ns, .. } => (row.event.at_ns.saturating_sub(ran_ns), ran_ns),
            _ => (row.begun_ns, row.event.at_ns - row.begun_ns.min(row.event.at_ns)),
        };
        let event = match lasted {
            0 => {
                json!({ "name": words, "ph": "i", "s": "t", "ts": us(begun), "pid": 1, "tid": lane, "args": args })
            }
            _ => {
                json!({ "name": words, "ph": "X", "ts": us(begun), "dur": us(lasted), "pid": 1, "tid": lane, "args": args })
            }
        };
        write!(out, ",\n{event}")?;
        written += 1;
    }
    for (name, lane) in lanes {
        let name =
            json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": lane, "args": { "name": name } });
        write!(out, ",\n{name}")?;
    }
    writeln!(out, "\n]}}")?;
    Ok(written)
}
