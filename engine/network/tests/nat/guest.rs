//! A guest's TCP/IP (smoltcp's) at the end of a cable.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use network::Link;
use network::link::STANDARD_FRAME;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant as Time;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use crate::card::Card;

pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// The guest.
pub struct Guest {
    pub card: Card,
    pub interface: Interface,
    pub sockets: SocketSet<'static>,
    begun: Instant,
    next_port: u16,
}

impl Guest {
    /// A guest with the address it would be leased.
    pub fn new(end: Arc<dyn Link>) -> Guest {
        let mut guest = Guest::unconfigured(end, 1);
        guest.configure(ADDRESS);
        guest
    }

    /// A guest without an address, whose card's last byte is `card`.
    pub fn unconfigured(link: Arc<dyn Link>, card: u8) -> Guest {
        let mac = EthernetAddress([0x52, 0x56, 0, 0, 0, card]);
        let mut card = Card::new(link, STANDARD_FRAME);
        let config = Config::new(HardwareAddress::Ethernet(mac));
        let interface = Interface::new(config, &mut card, Time::ZERO);
        Guest {
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            begun: Instant::now(),
            next_port: 40_000,
        }
    }

    pub fn configure(&mut self, address: Ipv4Addr) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(address), 24)).expect("room for an address");
        });
        self.interface.routes_mut().add_default_ipv4_route(GATEWAY).expect("room for a route");
    }

    /// Does what is due.
    pub fn poll(&mut self) {
        let now = Time::from_micros(self.begun.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.card, &mut self.sockets);
    }

    /// Polls until `done` gives something.
    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Guest) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.poll();
            if let Some(result) = done(self) {
                return result;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            if !self.card.link.has_frame() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    pub fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    fn new_tcp(&mut self, buffer: usize) -> SocketHandle {
        let room = || tcp::SocketBuffer::new(vec![0; buffer]);
        self.sockets.add(tcp::Socket::new(room(), room()))
    }

    /// Begins a connection.
    pub fn connect(&mut self, address: Ipv4Addr, port: u16, buffer: usize) -> SocketHandle {
        let (handle, local) = (self.new_tcp(buffer), self.port());
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket
            .connect(self.interface.context(), (IpAddress::Ipv4(address), port), local)
            .expect("a free socket");
        handle
    }

    /// Listens.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.new_tcp(64 << 10);
        self.tcp(handle).listen(port).expect("a free socket");
        handle
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Waits until a connection is there.
    pub fn wait_connected(&mut self, handle: SocketHandle) {
        self.until("a connection", |guest| guest.tcp(handle).may_send().then_some(()));
    }

    pub fn udp(&mut self) -> SocketHandle {
        let room = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 32 << 10]);
        let local = self.port();
        let mut socket = udp::Socket::new(room(), room());
        socket.bind(local).expect("a free port");
        self.sockets.add(socket)
    }

    /// Sends a datagram and waits for one back.
    pub fn ask(&mut self, handle: SocketHandle, to: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
        let socket = self.sockets.get_mut::<udp::Socket>(handle);
        socket.send_slice(data, (IpAddress::Ipv4(to.0), to.1)).expect("room for a datagram");
        self.until("a datagram", |guest| {
            let socket = guest.sockets.get_mut::<udp::Socket>(handle);
            socket.recv().ok().map(|(data, _)| data.to_vec())
        })
    }
}
