//! How much passes through the NAT: bytes per second of CPU time, all threads of this process together (the
//! guest's TCP/IP, the NAT, and the server at its other side).
//!
//! `cargo run --release -p network --example throughput`

#[path = "../tests/nat/card.rs"]
mod card;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use network::{Capacity, Link, Nat, NatOptions, cable};
use rustix::time::{ClockId, clock_gettime};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as Time;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use card::Card;

const BYTES: usize = 512 << 20;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn serve(mut stream: TcpStream, sends: bool) {
    let mut buffer = vec![0; 256 << 10];
    if sends {
        (0..BYTES / buffer.len()).for_each(|_| stream.write_all(&buffer).expect("the guest reads"));
    } else {
        // The guest ends with a reset.
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

fn run(longest: usize, sends: bool) -> f64 {
    let (link, far) = cable(Capacity::default());
    let mut options = NatOptions::default();
    options.policy.host_loopback = true;
    let _nat = Nat::start(far, options).expect("a NAT");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = thread::spawn(move || serve(listener.accept().expect("the guest comes").0, sends));

    let mut card = Card::new(link.clone(), longest);
    let config = Config::new(HardwareAddress::Ethernet(EthernetAddress([0x52, 0x56, 0, 0, 0, 1])));
    let mut interface = Interface::new(config, &mut card, Time::ZERO);
    interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::Ipv4(Ipv4Addr::new(10, 0, 2, 15)), 24)).expect("room");
    });
    let room = || tcp::SocketBuffer::new(vec![0; 512 << 10]);
    let mut sockets = SocketSet::new(Vec::new());
    let handle = sockets.add(tcp::Socket::new(room(), room()));
    let socket = sockets.get_mut::<tcp::Socket>(handle);
    socket.set_ack_delay(None); // it would wait 10 ms for a second segment of the longest size
    socket.connect(interface.context(), (IpAddress::Ipv4(GATEWAY), port), 40_000).expect("a free socket");

    let (begun, before, mut moved, data) = (Instant::now(), cpu_seconds(), 0, vec![0; 256 << 10]);
    while moved < BYTES {
        interface.poll(Time::from_micros(begun.elapsed().as_micros() as i64), &mut card, &mut sockets);
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        if sends {
            while socket.can_recv() {
                moved += socket.recv(|data| (data.len(), data.len())).expect("it can");
            }
        } else {
            while moved < BYTES && socket.can_send() {
                moved += socket.send_slice(&data[..data.len().min(BYTES - moved)]).expect("it can");
            }
        }
        if !link.has_frame() {
            thread::sleep(Duration::from_micros(20));
        }
    }
    let spent = cpu_seconds() - before;
    sockets.get_mut::<tcp::Socket>(handle).abort();
    interface.poll(Time::from_micros(begun.elapsed().as_micros() as i64), &mut card, &mut sockets);
    drop(server);
    moved as f64 / spent
}

fn main() {
    for (longest, name) in [(1514, "frames of 1514 bytes"), (65_549, "uncut segments")] {
        for (sends, direction) in [(false, "to the host"), (true, "from the host")] {
            let rate = run(longest, sends);
            println!("{name}, {direction}: {:.2} Gbit for a second of CPU time", rate * 8.0 / 1e9);
        }
    }
}
