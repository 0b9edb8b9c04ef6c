//! Addresses, names, ping and datagrams.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use network::{Forward, Nat, NatOptions, Switch, nat as rules};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{dhcpv4, icmp, udp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpAddress, Ipv4Address, Ipv4Cidr};

use crate::guest::{ADDRESS, DNS, GATEWAY, Guest};
use crate::{LOCALHOST, nat, open};

/// Asks for a lease: address, router and DNS server.
fn lease(guest: &mut Guest) -> (Ipv4Cidr, Option<Ipv4Addr>, Option<Ipv4Addr>) {
    let handle = guest.sockets.add(dhcpv4::Socket::new());
    guest.until("a lease", |guest| match guest.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
        Some(dhcpv4::Event::Configured(config)) => {
            Some((config.address, config.router, config.dns_servers.first().copied()))
        }
        _ => None,
    })
}

#[test]
fn a_guest_gets_a_lease() {
    let (_nat, end) = nat(open());
    let (address, router, dns) = lease(&mut Guest::unconfigured(end, 1));
    assert_eq!((address.address(), address.prefix_len()), (ADDRESS, 24));
    assert_eq!((router, dns), (Some(GATEWAY), Some(DNS)));
}

#[test]
fn two_guests_share_a_switch_and_its_nat() {
    let switch = Switch::new();
    let _nat = Nat::start(switch.connect(), open()).unwrap();
    let mut guests = [1, 2].map(|card| Guest::unconfigured(switch.connect(), card));
    let addresses = guests.each_mut().map(|guest| {
        let address = lease(guest).0.address();
        guest.configure(address);
        address
    });
    assert_ne!(addresses[0], addresses[1]);
    let [first, second] = &mut guests;
    let listener = first.listen(7);
    let handle = second.connect(addresses[0], 7, 4096);
    second.until("a connection to the other guest", |second| {
        first.poll();
        second.tcp(handle).may_send().then_some(())
    });
    assert_eq!(first.tcp(listener).remote_endpoint().unwrap().addr, IpAddress::Ipv4(addresses[1]));
    assert_eq!(ping(first, GATEWAY, b"over the switch").1, b"over the switch");
}

/// Sends an echo request and gives the reply: its address and data.
pub fn ping(guest: &mut Guest, to: Ipv4Addr, data: &'static [u8]) -> (IpAddress, Vec<u8>) {
    let room = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let handle = guest.sockets.add(icmp::Socket::new(room(), room()));
    let socket = guest.sockets.get_mut::<icmp::Socket>(handle);
    socket.bind(icmp::Endpoint::Ident(0x1234)).unwrap();
    let request = Icmpv4Repr::EchoRequest { ident: 0x1234, seq_no: 7, data };
    let bytes = socket.send(request.buffer_len(), IpAddress::Ipv4(to)).unwrap();
    request.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
    guest.until("a reply", |guest| {
        let (bytes, from) = guest.sockets.get_mut::<icmp::Socket>(handle).recv().ok()?;
        let packet = Icmpv4Packet::new_checked(bytes).unwrap();
        match Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default()).unwrap() {
            Icmpv4Repr::EchoReply { ident: 0x1234, seq_no: 7, data } => Some((from, data.to_vec())),
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn the_gateway_and_the_dns_proxy_answer_ping() {
    let (_nat, end) = nat(open());
    let mut guest = Guest::new(end);
    for address in [GATEWAY, DNS] {
        let reply = ping(&mut guest, address, b"is anybody there");
        assert_eq!(reply, (IpAddress::Ipv4(address), b"is anybody there".to_vec()));
    }
}

fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// A host's socket that the test answers by hand.
fn server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Answers one datagram with `reply` of it.
fn answer_once(socket: UdpSocket, reply: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        let (length, peer) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&reply(&buffer[..length]), peer).unwrap();
    });
}

#[test]
fn names_are_asked_of_the_hosts_resolver() {
    let (resolver, address) = server();
    answer_once(resolver, |question| {
        let mut reply = question.to_vec();
        reply[2] |= 0x80;
        reply.extend(b"the answer");
        reply
    });
    // The host's loopback is closed, and its resolver may still be asked.
    let options = NatOptions { resolvers: rules::Resolvers::Fixed(vec![address]), ..NatOptions::default() };
    let (_nat, end) = nat(options);
    let mut guest = Guest::new(end);
    let socket = guest.udp();
    let reply = guest.ask(socket, (DNS, 53), &question("example.org"));
    assert!(reply.ends_with(b"the answer") && reply[..2] == [0xAB, 0xCD]);
    let reply = guest.ask(socket, (DNS, 53), &question("gateway"));
    assert!(reply.ends_with(&GATEWAY.octets()));
}

#[test]
fn a_resolver_that_is_not_there_fails_and_the_next_one_is_asked() {
    let (resolver, address) = server();
    answer_once(resolver, |_| b"AB the second one answers".to_vec());
    let gone = server().1;
    let options = NatOptions { resolvers: rules::Resolvers::Fixed(vec![gone, address]), ..open() };
    let (_nat, end) = nat(options);
    let mut guest = Guest::new(end);
    let socket = guest.udp();
    let reply = guest.ask(socket, (DNS, 53), &question("example.org"));
    assert_eq!(reply[2..4], [0x81, 0x82], "server failure");
    let socket = guest.udp();
    assert!(guest.ask(socket, (DNS, 53), &question("example.org")).ends_with(b"second one answers"));
}

#[test]
fn without_resolvers_a_question_fails_at_once() {
    let (_nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let socket = guest.udp();
    assert_eq!(guest.ask(socket, (DNS, 53), &question("example.org"))[2..4], [0x81, 0x82]);
}

#[test]
fn datagrams_come_back() {
    let (echo, address) = server();
    answer_once(echo, |data| data.iter().rev().copied().collect());
    let (nat, end) = nat(open());
    let mut guest = Guest::new(end);
    let socket = guest.udp();
    assert_eq!(guest.ask(socket, (GATEWAY, address.port()), b"palindrome"), b"emordnilap");
    guest.until("a count", |_| (nat.counts().udp_flows == 1).then_some(()));
}

#[test]
fn a_forwarded_datagram_reaches_the_guest_and_its_answer_the_host() {
    let forward: Forward = "udp:0:5000".parse().unwrap();
    let (nat, end) = nat(NatOptions { forwards: vec![forward], ..open() });
    let (client, _) = server();
    client.connect(nat.forwards()[0].1).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut guest = Guest::new(end);
    let room = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = udp::Socket::new(room(), room());
    socket.bind(5000).unwrap();
    let handle = guest.sockets.add(socket);
    let mut last_sent = std::time::Instant::now() - Duration::from_secs(1);
    guest.until("an answer", |guest| {
        // The first ones are lost: the NAT asks who has the address.
        if last_sent.elapsed() > Duration::from_millis(100) {
            last_sent = std::time::Instant::now();
            client.send(b"knock").unwrap();
        }
        let socket = guest.sockets.get_mut::<udp::Socket>(handle);
        if let Ok((data, from)) = socket.recv() {
            assert_eq!((data, from.endpoint.addr), (&b"knock"[..], IpAddress::Ipv4(GATEWAY)));
            socket.send_slice(b"who is there", from.endpoint).unwrap();
        }
        let mut buffer = [0; 100];
        client.recv(&mut buffer).ok().map(|length| assert_eq!(&buffer[..length], b"who is there"))
    });
}

#[test]
fn the_hosts_loopback_is_closed_to_datagrams() {
    let (echo, address) = server();
    echo.set_nonblocking(true).unwrap();
    let (nat, end) = nat(NatOptions::default());
    let mut guest = Guest::new(end);
    let handle = guest.udp();
    for to in [GATEWAY, Ipv4Address::new(127, 0, 0, 1), Ipv4Address::new(169, 254, 169, 254)] {
        let socket = guest.sockets.get_mut::<udp::Socket>(handle);
        socket.send_slice(b"let me in", (IpAddress::Ipv4(to), address.port())).unwrap();
    }
    guest.until("refusals", |_| (nat.counts().refused == 3).then_some(()));
    assert!(echo.recv(&mut [0; 10]).is_err(), "nothing came");
    assert_eq!(nat.counts().udp_flows, 0);
}
