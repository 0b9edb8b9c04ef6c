//! TCP through the NAT.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use network::{Conditions, Forward, NatOptions, Shaper};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use crate::guest::{GATEWAY, Guest};
use crate::{LOCALHOST, nat, open, pattern};

const BUFFER: usize = 256 << 10;

/// A server on the host that serves one connection with `serve`; gives its port.
fn server<R: Send + 'static>(serve: impl FnOnce(TcpStream) -> R + Send + 'static) -> (u16, JoinHandle<R>) {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// Checks that `data` continues the pattern at `at`.
fn check(at: &mut u64, data: &[u8]) {
    for byte in data {
        assert_eq!(*byte, pattern(*at), "at byte {at}");
        *at += 1;
    }
}

fn patterned(at: u64, length: usize) -> Vec<u8> {
    (at..at + length as u64).map(pattern).collect()
}

/// Reads to the end on the host, checking; gives the length.
fn read_all(mut stream: impl Read) -> u64 {
    let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return at,
            count => check(&mut at, &buffer[..count]),
        }
    }
}

/// Sends `length` bytes of the pattern from the guest, and closes.
fn send_all(guest: &mut Guest, handle: SocketHandle, length: u64) {
    let mut at = 0;
    guest.until("all to be sent", |guest| {
        let socket = guest.tcp(handle);
        assert!(socket.may_send(), "the connection is gone at byte {at}");
        while at < length && socket.can_send() {
            let room = (socket.send_capacity() - socket.send_queue()).min((length - at) as usize);
            at += socket.send_slice(&patterned(at, room)).unwrap() as u64;
        }
        (at == length).then_some(())
    });
    guest.tcp(handle).close();
}

/// Receives in the guest until the end, checking; gives the length.
fn receive_all(guest: &mut Guest, handle: SocketHandle) -> u64 {
    let mut at = 0;
    guest.until("all to come", |guest| {
        let socket = guest.tcp(handle);
        while socket.can_recv() {
            socket.recv(|data| (data.len(), check(&mut at, data))).unwrap();
        }
        (!socket.may_recv()).then_some(at)
    })
}

fn gone(guest: &mut Guest, handle: SocketHandle) {
    guest.until("the end", |guest| (!guest.tcp(handle).is_open()).then_some(()));
}

/// A guest behind a line that loses frames both ways.
fn lossy() -> (network::Nat, Guest) {
    let (nat, end) = nat(open());
    let line = Shaper::new(end, 42);
    let conditions =
        Conditions { latency_us: 500, jitter_us: 500, lost_per_million: 20_000, bits_per_second: 0 };
    line.set_conditions(conditions);
    (nat, Guest::new(Arc::new(line)))
}

#[test]
fn a_bad_line_loses_nothing() {
    const BYTES: u64 = 1 << 20;
    let (nat, mut guest) = lossy();
    let (port, received) = server(read_all);
    let handle = guest.connect(GATEWAY, port, BUFFER);
    guest.wait_connected(handle);
    send_all(&mut guest, handle, BYTES);
    guest.until("the server", |_| received.is_finished().then_some(()));
    assert_eq!(received.join().unwrap(), BYTES);

    let (port, sent) = server(|mut stream| stream.write_all(&patterned(0, BYTES as usize)).unwrap());
    let handle = guest.connect(GATEWAY, port, BUFFER);
    guest.wait_connected(handle);
    assert_eq!(receive_all(&mut guest, handle), BYTES);
    sent.join().unwrap();
    guest.tcp(handle).close();
    guest.until("the NAT to forget", |_| (nat.counts().tcp_connections == 0).then_some(()));
}

const FIFTY_MIB: u64 = 50 << 20;

#[test]
fn fifty_mebibytes_to_the_host() {
    let (port, received) = server(read_all);
    let (_nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let handle = guest.connect(GATEWAY, port, BUFFER);
    guest.wait_connected(handle);
    send_all(&mut guest, handle, FIFTY_MIB);
    guest.until("the server", |_| received.is_finished().then_some(()));
    assert_eq!(received.join().unwrap(), FIFTY_MIB);
}

#[test]
fn fifty_mebibytes_from_the_host() {
    let (port, sent) = server(|mut stream| {
        for at in (0..FIFTY_MIB).step_by(1 << 16) {
            stream.write_all(&patterned(at, 1 << 16)).unwrap();
        }
    });
    let (nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let handle = guest.connect(GATEWAY, port, BUFFER);
    guest.wait_connected(handle);
    assert_eq!(receive_all(&mut guest, handle), FIFTY_MIB);
    sent.join().unwrap();
    guest.tcp(handle).close();
    guest.until("the NAT to forget", |_| (nat.counts().tcp_connections == 0).then_some(()));
}

#[test]
fn two_hundred_connections_at_once() {
    const CONNECTIONS: usize = 220;
    const BYTES: usize = 20_000;
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Every connection is open before the first one is served.
    let served = thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in streams {
            let mut data = vec![0; BYTES];
            stream.read_exact(&mut data).unwrap();
            data.reverse();
            stream.write_all(&data).unwrap();
        }
    });
    let (nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let handles: Vec<_> = (0..CONNECTIONS).map(|_| guest.connect(GATEWAY, port, 32 << 10)).collect();
    let mut sent = vec![0; CONNECTIONS];
    let mut answers = vec![Vec::new(); CONNECTIONS];
    let mut most = 0;
    guest.until("all answers", |guest| {
        most = most.max(nat.counts().tcp_connections);
        for (index, handle) in handles.iter().enumerate() {
            let socket = guest.tcp(*handle);
            while sent[index] < BYTES && socket.can_send() {
                sent[index] += socket.send_slice(&patterned(index as u64, BYTES)[sent[index]..]).unwrap();
            }
            if socket.can_recv() {
                socket.recv(|data| (data.len(), answers[index].extend_from_slice(data))).unwrap();
            }
        }
        answers.iter().all(|answer| answer.len() == BYTES).then_some(())
    });
    served.join().unwrap();
    assert!(most >= CONNECTIONS, "{most} at once");
    for (index, answer) in answers.iter().enumerate() {
        let expected: Vec<u8> = patterned(index as u64, BYTES).into_iter().rev().collect();
        assert!(*answer == expected, "connection {index}");
    }
}

#[test]
fn a_forwarded_connection_reaches_the_guest() {
    let forward: Forward = "tcp:0:22".parse().unwrap();
    let (nat, end) = nat(NatOptions { forwards: vec![forward], ..NatOptions::default() });
    let address = nat.forwards()[0].1;
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let mut guest = Guest::new(end);
    let handle = guest.listen(22);
    guest.until("a greeting", |guest| {
        let socket = guest.tcp(handle);
        (socket.recv_queue() == 5).then(|| assert_eq!(socket.remote_endpoint().unwrap().addr, GATEWAY.into()))
    });
    guest.tcp(handle).send_slice(b"and good bye").unwrap();
    guest.tcp(handle).close();
    guest.until("the client", |_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap(), "and good bye");
}

#[test]
fn a_forward_to_a_closed_port_is_reset() {
    let forward: Forward = "tcp:0:23".parse().unwrap();
    let (nat, end) = nat(NatOptions { forwards: vec![forward], ..NatOptions::default() });
    let mut stream = TcpStream::connect(nat.forwards()[0].1).unwrap();
    let reader = thread::spawn(move || stream.read(&mut [0; 10]).unwrap_err().kind());
    let mut guest = Guest::new(end);
    guest.until("a reset", |_| reader.is_finished().then_some(()));
    assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionReset);
    nat.unforward(&forward);
    let address = nat.forwards();
    assert!(address.is_empty());
}

#[test]
fn the_hosts_loopback_is_closed_unless_opened() {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (nat, end) = nat(NatOptions::default());
    let mut guest = Guest::new(end);
    for address in [GATEWAY, LOCALHOST, Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(169, 254, 169, 254)] {
        let handle = guest.connect(address, port, 4096);
        gone(&mut guest, handle);
    }
    assert_eq!(nat.counts().refused, 4);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_closed_port_of_the_host_refuses() {
    let port = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let (nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let handle = guest.connect(GATEWAY, port, 4096);
    gone(&mut guest, handle);
    assert_eq!((nat.counts().tcp_failed, nat.counts().refused), (1, 0));
}

#[test]
fn half_closed_both_ways() {
    // The guest finishes first; the host answers what it got.
    let (port, served) = server(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let (nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let handle = guest.connect(GATEWAY, port, 4096);
    guest.wait_connected(handle);
    guest.tcp(handle).send_slice(b"shout").unwrap();
    guest.tcp(handle).close();
    guest.until("the answer", |guest| (guest.tcp(handle).recv_queue() == 5).then_some(()));
    guest.tcp(handle).recv(|data| (data.len(), assert_eq!(data, b"SHOUT"))).unwrap();
    served.join().unwrap();

    // The host finishes first; the guest goes on.
    let (port, served) = server(|mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let handle = guest.connect(GATEWAY, port, 4096);
    guest.until("the host's end", |guest| (guest.tcp(handle).state() == tcp::State::CloseWait).then_some(()));
    guest.tcp(handle).send_slice(b"still here").unwrap();
    guest.tcp(handle).close();
    guest.until("the server", |_| served.is_finished().then_some(()));
    assert_eq!(served.join().unwrap(), "still here");
    guest.until("the NAT to forget", |_| (nat.counts().tcp_connections == 0).then_some(()));
}

#[test]
fn resets_pass_both_ways() {
    // The guest aborts.
    let (port, served) = server(|mut stream| stream.read(&mut [0; 10]).unwrap_err().kind());
    let (nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let handle = guest.connect(GATEWAY, port, 4096);
    guest.wait_connected(handle);
    guest.tcp(handle).abort();
    guest.until("the server", |_| served.is_finished().then_some(()));
    assert_eq!(served.join().unwrap(), ErrorKind::ConnectionReset);

    // The host aborts: it closes with data it has not read.
    let (port, served) = server(|stream| while stream.peek(&mut [0; 1]).unwrap() == 0 {});
    let handle = guest.connect(GATEWAY, port, 4096);
    guest.wait_connected(handle);
    guest.tcp(handle).send_slice(b"unread").unwrap();
    gone(&mut guest, handle);
    served.join().unwrap();
    guest.until("the NAT to forget", |_| (nat.counts().tcp_connections == 0).then_some(()));
}

#[test]
fn a_slow_server_holds_the_guest_back_and_loses_nothing() {
    const BYTES: u64 = 8 << 20;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (port, served) = server(move |stream| {
        wait.recv().unwrap();
        read_all(stream)
    });
    let (_nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let handle = guest.connect(GATEWAY, port, BUFFER);
    guest.wait_connected(handle);
    let mut at = 0;
    let mut stuck = std::time::Instant::now();
    // Until nothing more is taken: what the NAT and the host's kernel hold is bounded.
    guest.until("a stop", |guest| {
        let socket = guest.tcp(handle);
        let before = at;
        while at < 64 * BYTES && socket.can_send() {
            at += socket.send_slice(&patterned(at, 1 << 16)).unwrap() as u64;
        }
        if at > before {
            stuck = std::time::Instant::now();
        }
        (stuck.elapsed() > Duration::from_secs(1)).then_some(())
    });
    assert!(at < 32 * BYTES, "{at} bytes were taken that nobody read");
    go.send(()).unwrap();
    guest.tcp(handle).close();
    guest.until("the server", |_| served.is_finished().then_some(()));
    assert_eq!(served.join().unwrap(), at);
}

#[test]
fn a_slow_guest_holds_the_server_back_and_loses_nothing() {
    let (port, sent) = server(|mut stream| {
        stream.set_nonblocking(true).unwrap();
        let (mut at, mut stuck) = (0_u64, std::time::Instant::now());
        while stuck.elapsed() < Duration::from_secs(1) {
            match stream.write(&patterned(at, 1 << 16)) {
                Ok(count) => {
                    at += count as u64;
                    stuck = std::time::Instant::now();
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
        at
    });
    let (_nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let handle = guest.connect(GATEWAY, port, 16 << 10);
    guest.until("the server to be stuck", |_| sent.is_finished().then_some(()));
    let sent = sent.join().unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were taken that nobody read");
    assert_eq!(receive_all(&mut guest, handle), sent);
}
