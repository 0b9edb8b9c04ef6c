//! `vitrine ctl`: finds the machine among the user's running Vitrines, asks, and shows the answer.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use cpu::Registers;
use serde_json::Value;

use super::command::TraceAct;
use super::debug::SymbolsAction;
use super::parts::CaptureTo;
use super::{Answer, Command, ControlArguments, Reply, Request, debug, socket};
use crate::cli::{console, status};

/// A connection to one Vitrine.
struct Peer(BufReader<UnixStream>);

impl Peer {
    fn ask(&mut self, request: &Request) -> Result<Answer, String> {
        let told = |error: std::io::Error| format!("the connection to the running Vitrine broke: {error}");
        let mut line = serde_json::to_string(request).map_err(|error| error.to_string())?;
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes()).map_err(told)?;
        let mut reply = String::new();
        if self.0.read_line(&mut reply).map_err(told)? == 0 {
            return Err("the running Vitrine has ended".to_owned());
        }
        match serde_json::from_str(&reply).map_err(|error| format!("an answer nobody can read: {error}"))? {
            Reply::Done(answer) => Ok(answer),
            Reply::Refused(reason) => Err(reason),
        }
    }

    /// The names of its machines.
    fn machines(&mut self) -> Vec<String> {
        let list = self.ask(&Request { machine: None, command: Command::List }).map(|answer| answer.json);
        let names = |list: &Value| -> Option<Vec<String>> {
            list.as_array()?.iter().map(|machine| Some(machine["name"].as_str()?.to_owned())).collect()
        };
        list.ok().as_ref().and_then(names).unwrap_or_default()
    }
}

/// Does what the command line asks for.
pub fn control(arguments: &ControlArguments) -> Result<u8, String> {
    let mut peers: Vec<Peer> = socket::connect_all(&socket::folder())
        .into_iter()
        .map(|stream| Peer(BufReader::new(stream)))
        .collect();
    if peers.is_empty() {
        return Err("no Vitrine of yours is running; start a machine first".to_owned());
    }
    let Some(hz) = arguments.watch else {
        return once(&mut peers, arguments);
    };
    if !arguments.command.is_question() {
        return Err("--watch asks again and again; this command changes something, or waits".to_owned());
    }
    let period = Duration::from_secs(1) / hz;
    let mut due = Instant::now();
    loop {
        once(&mut peers, arguments)?;
        due += period;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Asks the running machine called `machine`; `None` if there is none.
pub fn request(machine: &str, command: Command) -> Option<Result<Answer, String>> {
    let peers = socket::connect_all(&socket::folder()).into_iter();
    let mut peers = peers.map(|stream| Peer(BufReader::new(stream)));
    let mut peer =
        peers.find_map(|mut peer| peer.machines().iter().any(|name| name == machine).then_some(peer))?;
    Some(peer.ask(&Request { machine: Some(machine.to_owned()), command }))
}

fn once(peers: &mut [Peer], arguments: &ControlArguments) -> Result<u8, String> {
    let mut command = arguments.command.clone();
    if let Command::Registers { only_json, .. } = &mut command {
        *only_json = arguments.json;
    }
    if arguments.machine.is_none()
        && let Command::Move { donor, receiver, .. } = &command
    {
        let peer = peer_for(peers, Some(donor))?;
        if !peer.machines().contains(receiver) {
            return Err(format!(
                "{receiver} does not run in the process of {donor}; what runs there: {}. Machines that share one \
                 process are started together: vitrine run {donor} {receiver} --headless",
                peer.machines().join(", ")
            ));
        }
        return follow(peer, command, arguments.json);
    }
    if let Command::Undo { .. } = &command {
        return follow(peer_for(peers, arguments.machine.as_deref())?, command, arguments.json);
    }
    let everywhere = matches!(&command, Command::List)
        || arguments.machine.is_none() && matches!(&command, Command::Moves)
        || arguments.machine.is_none() && matches!(&command, Command::Registers { all: true, .. });
    if everywhere {
        let request = Request { machine: None, command };
        let answers: Vec<Answer> =
            peers.iter_mut().map(|peer| peer.ask(&request)).collect::<Result<_, _>>()?;
        let list = |answer: &Answer| answer.json.as_array().cloned().unwrap_or_default();
        let json = Value::Array(answers.iter().flat_map(list).collect());
        let texts: Vec<&str> =
            answers.iter().map(|answer| answer.text.as_str()).filter(|text| !text.is_empty()).collect();
        show(&Answer { text: texts.join("\n"), json }, arguments.json);
        return Ok(0);
    }
    let command = absolute(command);
    if let Command::Registers { compare, cpu, .. } = &command
        && !compare.is_empty()
    {
        show(&compared(peers, arguments.machine.as_deref(), compare, *cpu)?, arguments.json);
        return Ok(0);
    }
    let request = Request { machine: arguments.machine.clone(), command };
    let peer = peer_for(peers, arguments.machine.as_deref())?;
    show(&peer.ask(&request)?, arguments.json);
    Ok(0)
}

/// Begins a transfer. A program gets it as it stands; a person sees it go on to its end.
fn follow(peer: &mut Peer, command: Command, json: bool) -> Result<u8, String> {
    const LOOK: Duration = Duration::from_millis(50);
    let mut answer = peer.ask(&Request { machine: None, command })?;
    if json {
        show(&answer, true);
        return Ok(status::SUCCESS);
    }
    let number = answer.json["number"].clone();
    let mut shown = String::new();
    loop {
        let over = answer.json["outcome"].as_str().is_some_and(|outcome| !outcome.is_empty());
        // A line for each new state, and for progress; not for each tick of its clock.
        let stands = format!("{} {}", answer.json["state"], answer.json["given"]);
        if over || stands != shown {
            show(&answer, false);
            shown = stands;
        }
        if over {
            let done = answer.json["state"] == "done";
            return Ok(if done { status::SUCCESS } else { status::ERROR });
        }
        std::thread::sleep(LOOK);
        let all = peer.ask(&Request { machine: None, command: Command::Moves })?;
        let transfers = all.json.as_array().cloned().unwrap_or_default();
        let at = transfers.iter().position(|transfer| transfer["number"] == number);
        let at = at.ok_or("the transfer is too long ago")?;
        let text = all.text.lines().nth(at).unwrap_or_default().to_owned();
        answer = Answer { text, json: transfers[at].clone() };
    }
}

/// Two states side by side, of machines of any Vitrine, or moments kept by them; one alone is compared with now.
fn compared(
    peers: &mut [Peer],
    machine: Option<&str>,
    states: &[String],
    cpu: usize,
) -> Result<Answer, String> {
    let now = format!("now:{cpu}");
    let names = match states {
        [moment] => [moment.as_str(), &now],
        [first, second, ..] => [first.as_str(), second.as_str()],
        [] => return Err("name what to compare".to_owned()),
    };
    let mut both = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let is_now = index == 1 && states.len() == 1;
        both.push(state(peers, machine, name, is_now)?);
    }
    debug::comparison(names, &both[0], &both[1])
}

/// The registers of MACHINE[:CPU], or those kept as MOMENT[:CPU].
fn state(peers: &mut [Peer], machine: Option<&str>, text: &str, is_now: bool) -> Result<Registers, String> {
    let (name, cpu) = debug::of_cpu(text)?;
    let is_machine = peers.iter_mut().any(|peer| peer.machines().iter().any(|known| known == name));
    let mut command = Command::registers(cpu, false, false);
    if let (Command::Registers { kept, .. }, false) = (&mut command, is_now || is_machine) {
        *kept = Some(name.to_owned());
    }
    let target = if is_machine && !is_now { Some(name) } else { machine };
    let request = Request { machine: target.map(str::to_owned), command };
    let answer = peer_for(peers, target)?.ask(&request)?;
    serde_json::from_value(answer.json["registers"].clone()).map_err(|error| error.to_string())
}

/// Paths are meant from here, not from where the machine was started.
fn absolute(command: Command) -> Command {
    match command {
        Command::Insert { drive, file } => Command::Insert { drive, file: crate::boot::absolute(&file) },
        Command::Screenshot { path } => Command::Screenshot { path: crate::boot::absolute(&path) },
        Command::Capture { to: CaptureTo::File(path) } => {
            Command::Capture { to: CaptureTo::File(crate::boot::absolute(&path)) }
        }
        Command::Symbols { action: SymbolsAction::Load { path } } => {
            Command::Symbols { action: SymbolsAction::Load { path: crate::boot::absolute(&path) } }
        }
        Command::Trace { act: TraceAct::Export { path, filter } } => {
            Command::Trace { act: TraceAct::Export { path: crate::boot::absolute(&path), filter } }
        }
        other => other,
    }
}

/// The Vitrine that runs the machine.
fn peer_for<'a>(peers: &'a mut [Peer], machine: Option<&str>) -> Result<&'a mut Peer, String> {
    let Some(machine) = machine else {
        return match peers {
            [only] => Ok(only),
            _ => Err(format!("several Vitrines run; say which machine: {}", all_names(peers))),
        };
    };
    let has = |peer: &mut Peer| peer.machines().iter().any(|name| name == machine);
    let at: Vec<usize> = (0..peers.len()).filter(|at| has(&mut peers[*at])).collect();
    match at[..] {
        [at] => Ok(&mut peers[at]),
        [_, _, ..] => Err(format!(
            "{} Vitrines run a machine called {machine}; end one, or give it another name (vitrine create NAME)",
            at.len()
        )),
        [] => Err(format!("no running machine is called {machine}; there is: {}", all_names(peers))),
    }
}

fn all_names(peers: &mut [Peer]) -> String {
    peers.iter_mut().flat_map(Peer::machines).collect::<Vec<_>>().join(", ")
}

fn show(answer: &Answer, json: bool) {
    match json {
        true => console::say(&answer.json.to_string()),
        false if answer.text.is_empty() => {}
        false => console::say(answer.text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_meant_from_where_the_user_stands() {
        let file = std::path::PathBuf::from("x.file");
        let here = std::path::absolute(&file).unwrap();
        let everyone = |path: &std::path::Path| {
            let path = path.to_owned();
            [
                Command::Insert { drive: "cdrom".to_owned(), file: path.clone() },
                Command::Screenshot { path: path.clone() },
                Command::Capture { to: CaptureTo::File(path.clone()) },
                Command::Symbols { action: SymbolsAction::Load { path: path.clone() } },
                Command::Trace { act: TraceAct::Export { path, filter: Default::default() } },
            ]
        };
        assert_eq!(everyone(&file).map(absolute), everyone(&here));
    }
}
