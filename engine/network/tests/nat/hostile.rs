//! A guest that sends anything.

use std::net::Ipv4Addr;

use network::{Link, nat as limits};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Packet,
    Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket,
};

use crate::guest::{ADDRESS, DNS, GATEWAY, Guest};
use crate::services::ping;
use crate::{nat, open};

/// xorshift64*, by Vigna.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }
}

fn frame(kind: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 14 + payload.len()];
    let header = EthernetRepr {
        src_addr: EthernetAddress([0x52, 0x56, 0, 0, 0, 1]),
        dst_addr: EthernetAddress([0x52, 0x56, 0, 0, 2, 2]),
        ethertype: kind,
    };
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    header.emit(&mut frame);
    frame.payload_mut().copy_from_slice(payload);
    bytes
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20 + payload.len()];
    let header = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: protocol,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    header.emit(&mut packet, &ChecksumCapabilities::default());
    packet.payload_mut().copy_from_slice(payload);
    frame(EthernetProtocol::Ipv4, &bytes)
}

fn udp(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8 + data.len()];
    let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
    packet.set_src_port(ports.0);
    packet.set_dst_port(ports.1);
    packet.set_len(8 + data.len() as u16);
    packet.payload_mut().copy_from_slice(data);
    packet.fill_checksum(&IpAddress::Ipv4(from), &IpAddress::Ipv4(to));
    ipv4(from, to, IpProtocol::Udp, &bytes)
}

fn tcp(random: &mut Random, port: u16) -> Vec<u8> {
    let controls = [TcpControl::None, TcpControl::Syn, TcpControl::Fin, TcpControl::Rst, TcpControl::Psh];
    let data = random.bytes(100);
    let segment = TcpRepr {
        src_port: 1 + random.below(2000) as u16,
        dst_port: port,
        control: controls[random.below(5)],
        seq_number: TcpSeqNumber(random.next() as i32),
        ack_number: (random.below(2) == 0).then(|| TcpSeqNumber(random.next() as i32)),
        window_len: random.next() as u16,
        window_scale: (random.below(2) == 0).then(|| random.below(15) as u8),
        max_seg_size: (random.below(2) == 0).then(|| random.next() as u16),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &data,
    };
    let mut bytes = vec![0; segment.buffer_len()];
    let mut packet = TcpPacket::new_unchecked(&mut bytes[..]);
    let (from, to) = (IpAddress::Ipv4(ADDRESS), IpAddress::Ipv4(GATEWAY));
    segment.emit(&mut packet, &from, &to, &ChecksumCapabilities::ignored());
    // Options of any kind, as far as there are any.
    for byte in packet.options_mut() {
        if random.below(8) == 0 {
            *byte = random.next() as u8;
        }
    }
    packet.fill_checksum(&from, &to);
    ipv4(ADDRESS, GATEWAY, IpProtocol::Tcp, &bytes)
}

fn any_frame(random: &mut Random, port: u16) -> Vec<u8> {
    let data = random.bytes(320);
    let mut bytes = match random.below(8) {
        0 => random.bytes(1600),
        1 => frame(EthernetProtocol::Arp, &data),
        2 => frame(EthernetProtocol::Ipv4, &data),
        3 => udp(ADDRESS, DNS, (1024 + random.below(4000) as u16, 53), &data),
        4 => udp(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, (68, 67), &{
            let mut message = vec![0; 240];
            message[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
            message[28] = 2;
            message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
            message.extend([53, 1, 1 + random.below(8) as u8]);
            message.extend(&data);
            message
        }),
        5 => ipv4(ADDRESS, GATEWAY, IpProtocol::from(random.below(20) as u8), &data),
        _ => tcp(random, port),
    };
    if random.below(4) == 0 && !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] = random.next() as u8;
    }
    bytes
}

#[test]
fn any_frames_leave_the_nat_whole_and_bounded() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let (nat, end) = nat(open());
    let mut received = Vec::new();
    for seed in 1..=60_000_u64 {
        let bytes = any_frame(&mut Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1), port);
        end.send(&bytes);
        while end.receive(&mut received) {}
        if seed % 64 == 0 {
            let counts = nat.counts();
            assert!(
                counts.tcp_connections <= limits::MAX_CONNECTIONS && counts.udp_flows <= limits::MAX_FLOWS
            );
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }
    let mut guest = Guest::new(end);
    assert_eq!(ping(&mut guest, GATEWAY, b"still there").1, b"still there");
    assert!(nat.counts().tcp_opened > 100, "{:?}", nat.counts());
}
