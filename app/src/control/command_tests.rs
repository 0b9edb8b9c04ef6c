//! Commands as people and programs write them.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    control: ControlArguments,
}

fn parse(words: &[&str]) -> ControlArguments {
    Line::try_parse_from(std::iter::once(&"ctl").chain(words)).map(|line| line.control).unwrap()
}

#[test]
fn a_name_may_stand_before_the_command() {
    assert_eq!(parse(&["status"]).machine, None);
    let named = parse(&["mine", "registers", "--all", "--json"]);
    assert_eq!((named.machine.as_deref(), named.json), (Some("mine"), true));
    assert_eq!(named.command, Command::registers(0, true, false));
    assert_eq!(parse(&["registers", "--watch"]).watch, Some(2));
}

#[test]
fn a_move_reads_like_a_sentence() {
    let moved = parse(&["move", "memory", "128M", "from", "A", "to", "B"]).command;
    let Command::Move { what, amount, donor, receiver, .. } = &moved else { panic!("{moved:?}") };
    assert_eq!((*what, &amount[..], &donor[..], &receiver[..]), (Movable::Memory, "128M", "A", "B"));
    let words = ["ctl", "move", "memory", "128M", "to", "A", "from", "B"];
    assert!(Line::try_parse_from(words).is_err());
    let program = r#"{"move":{"what":"shares","amount":"100","donor":"A","receiver":"B"}}"#;
    assert!(matches!(serde_json::from_str(program), Ok(Command::Move { what: Movable::Shares, .. })));
}

#[test]
fn what_the_window_shows_is_read_back_as_what_it_did() {
    let add = |text: &str, ignore| {
        let condition = text.split(' ').map(str::to_owned).collect();
        Command::Break { action: BreakAction::Add { condition, ignore } }
    };
    let steps = StepArguments::into(1, 100);
    for command in [
        add("exception #PF error 0x2", 0),
        add("port 0x40-0x43 access", 3),
        Command::Break { action: BreakAction::Remove { id: Some(4) } },
        Command::Step(StepArguments { over: true, ..steps.clone() }),
        Command::Step(StepArguments { back: true, count: 1, ..steps }),
        Command::Continue { back: true, wait: 10 },
        Command::History { on: true, memory: 256 },
        Command::Symbols { action: SymbolsAction::Load { path: "vmlinux".into() } },
    ] {
        let written = command.words().unwrap().replace('\'', "");
        let words: Vec<&str> = written.split(' ').collect();
        assert_eq!(parse(&words).command, command, "{written}");
    }
}

#[test]
fn conditions_and_steps_are_written_as_words() {
    let add = parse(&["mine", "break", "add", "data", "0x500", "2", "write", "--ignore", "5"]).command;
    let condition = ["data", "0x500", "2", "write"].map(str::to_owned).to_vec();
    assert_eq!(add, Command::Break { action: BreakAction::Add { condition, ignore: 5 } });
    let Command::Step(step) = parse(&["step", "7", "--back"]).command else { panic!() };
    assert_eq!((step.count, step.back, step.over, step.wait), (7, true, false, 10));
    let Command::Registers { compare, .. } = parse(&["registers", "--compare", "a:1", "b"]).command else {
        panic!()
    };
    assert_eq!(compare, ["a:1", "b"]);
    assert_eq!(serde_json::from_str::<Command>(r#"{"step":{}}"#).unwrap(), parse(&["step"]).command);
    let code = serde_json::from_str::<Command>(r#"{"disassemble":{"offset":null}}"#).unwrap();
    assert_eq!(code, parse(&["disassemble"]).command, "a program gets as much as a person");
}

#[test]
fn addresses_are_hexadecimal_or_decimal() {
    let memory = parse(&["memory", "0x7c00", "512"]).command;
    assert_eq!(memory, Command::Memory { address: 0x7C00, bytes: 512, physical: false, cpu: 0 });
    assert!(number("seven").is_err());
    assert_eq!(number("0xFFFF_0000"), Ok(0xFFFF_0000));
}

#[test]
fn a_trace_is_asked_for_in_words() {
    let tail = parse(&["mine", "trace", "tail", "-n", "5", "--device", "8254"]).command;
    let filter = TraceFilter { device: Some("8254".into()), ..TraceFilter::default() };
    assert_eq!(tail, Command::Trace { act: TraceAct::Tail { count: 5, filter } });
    let short: Command = serde_json::from_str(r#"{"trace":{"act":{"tail":{}}}}"#).unwrap();
    let filter = TraceFilter::default();
    assert_eq!(short, Command::Trace { act: TraceAct::Tail { count: 40, filter } });
}

#[test]
fn a_request_needs_no_more_than_what_matters() {
    let command: Command = serde_json::from_str(r#"{"registers":{}}"#).unwrap();
    assert_eq!(command, Command::registers(0, false, false));
    assert_eq!(serde_json::from_str::<Command>("\"pause\"").unwrap(), Command::Pause);
}
