//! Serves the socket: a thread that accepts, and one for each connection, a bounded number of them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::{Registry, Reply, Request, execute, socket};

/// Connections served at once.
const MOST_CONNECTIONS: usize = 32;
/// Longest request, in bytes.
const LONGEST_REQUEST: u64 = 1 << 20;

/// Opens this process's socket, the first time it is called.
pub fn start_once(registry: &Arc<Registry>) -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        let listener = socket::listen(&socket::folder())?;
        serve(listener, registry.clone());
        Ok(())
    };
    STARTED.get_or_init(start).clone()
}

/// Serves `listener` from now on.
pub fn serve(listener: UnixListener, registry: Arc<Registry>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming() {
            // A connection that fails while it is made is the other side's loss.
            let Ok(stream) = stream else { continue };
            if connections.fetch_add(1, Ordering::AcqRel) >= MOST_CONNECTIONS {
                let too_many = Reply::Refused(format!("{MOST_CONNECTIONS} connections are served already"));
                let _ = write_reply(&stream, &too_many);
                connections.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let (registry, connections) = (registry.clone(), connections.clone());
            let serve_one = move || {
                // It ends when the other side is gone.
                let _ = converse(&stream, &registry);
                connections.fetch_sub(1, Ordering::AcqRel);
            };
            spawn("control connection", serve_one);
        }
    };
    spawn("control", accept);
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(body).expect("the host has room for a thread");
}

fn converse(stream: &UnixStream, registry: &Registry) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LONGEST_REQUEST).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_str::<Request>(&line) {
            Ok(request) => match execute::execute(registry, &request) {
                Ok(answer) => Reply::Done(answer),
                Err(reason) => Reply::Refused(reason),
            },
            Err(error) => Reply::Refused(format!("this is no request: {error}")),
        };
        write_reply(stream, &reply)?;
    }
}

fn write_reply(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_string(reply)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Command;
    use crate::running::Running;
    use crate::running::fake::{Deed, Fake};

    #[test]
    fn requests_are_answered_in_order_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let registry: Arc<Registry> = Arc::default();
        let fake = Fake::new("one");
        let machine: Arc<dyn Running> = fake.clone();
        registry.add(&machine);
        serve(UnixListener::bind(&path).unwrap(), registry);
        let stream = UnixStream::connect(&path).unwrap();
        let mut reader = BufReader::new(&stream);
        let mut ask = |line: &str| {
            (&stream).write_all(format!("{line}\n").as_bytes()).unwrap();
            let mut reply = String::new();
            reader.read_line(&mut reply).unwrap();
            serde_json::from_str::<Reply>(&reply).unwrap()
        };
        let pause = Request { machine: Some("one".into()), command: Command::Pause };
        assert!(matches!(ask(&serde_json::to_string(&pause).unwrap()), Reply::Done(_)));
        assert_eq!(fake.deeds(), [Deed::Pause]);
        assert!(matches!(ask("{\"machine\":null"), Reply::Refused(_)));
        let other = Request { machine: Some("two".into()), command: Command::Pause };
        let Reply::Refused(reason) = ask(&serde_json::to_string(&other).unwrap()) else { panic!() };
        assert!(reason.contains("one"), "{reason}");
    }
}
