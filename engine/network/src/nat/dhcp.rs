//! The DHCP server: an address for each card, the router, the DNS proxy, a name (RFC 2131, RFC 2132).

use std::net::Ipv4Addr;

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress, Ipv4Address};

use super::policy::Subnet;
use crate::mac::Mac;

/// The port the server listens on.
pub const SERVER_PORT: u16 = 67;
/// The port clients listen on.
pub const CLIENT_PORT: u16 = 68;
/// A day.
const LEASE_SECONDS: u32 = 86_400;
/// A reply with all its options is shorter.
const REPLY_BYTES: usize = 576;

/// Option codes, RFC 2132.
mod option {
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const DNS: u8 = 6;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const CLIENT_ID: u8 = 61;
}

/// Who has which address.
pub struct Leases {
    subnet: Subnet,
    /// What guests are told they are called.
    host_name: String,
    domain: &'static str,
    /// In the order of their last use: when all addresses are taken, the first one is given anew.
    leases: Vec<(Mac, Ipv4Addr)>,
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// To this card, or to all.
    pub mac: Mac,
    /// To this address.
    pub address: Ipv4Addr,
    /// The message.
    pub message: Vec<u8>,
    /// The lease it confirms.
    pub lease: Option<Ipv4Addr>,
}

/// What matters of a client's message.
struct Request {
    kind: DhcpMessageType,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    client_id: Vec<u8>,
}

impl Leases {
    /// No lease yet.
    pub fn new(subnet: Subnet, host_name: &str, domain: &'static str) -> Leases {
        Leases { subnet, host_name: host_label(host_name), domain, leases: Vec::new() }
    }

    /// The address of the card that was leased one most recently, or that the first one will get.
    pub fn latest(&self) -> Ipv4Addr {
        self.leases.last().map_or(self.subnet.first_guest(), |(_, address)| *address)
    }

    /// Answers a client's message, if an answer is due.
    pub fn answer(&mut self, message: &[u8]) -> Option<Answer> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        if packet.magic_number() != 0x6382_5363 || packet.hardware_len() != 6 {
            return None;
        }
        let mac = Mac(packet.client_hardware_address().0);
        if mac.is_group() {
            return None;
        }
        let request = Request::parse(&packet)?;
        let ours = request.server.is_none_or(|server| server == self.subnet.gateway());
        let client = packet.client_ip();
        match request.kind {
            DhcpMessageType::Discover => {
                let address = self.lease(mac, request.requested);
                Some(self.reply(&packet, &request, DhcpMessageType::Offer, Some(address)))
            }
            DhcpMessageType::Request if ours => {
                let wanted = request.requested.unwrap_or(client);
                let address = self.lease(mac, Some(wanted));
                let (kind, address) = if address == wanted {
                    (DhcpMessageType::Ack, Some(address))
                } else {
                    (DhcpMessageType::Nak, None)
                };
                Some(self.reply(&packet, &request, kind, address))
            }
            DhcpMessageType::Inform => Some(self.reply(&packet, &request, DhcpMessageType::Ack, None)),
            _ => None,
        }
    }

    /// The lease of `mac`: the one it has, or `wanted` if that is free, or the next free one.
    fn lease(&mut self, mac: Mac, wanted: Option<Ipv4Addr>) -> Ipv4Addr {
        if let Some(index) = self.leases.iter().position(|(owner, _)| *owner == mac) {
            let lease = self.leases.remove(index);
            self.leases.push(lease);
            return lease.1;
        }
        let free = |address: &Ipv4Addr| self.leases.iter().all(|(_, taken)| taken != address);
        let wanted =
            wanted.filter(|wanted| self.subnet.leases().any(|address| address == *wanted) && free(wanted));
        let address = wanted.or_else(|| self.subnet.leases().find(free));
        let address = address.unwrap_or_else(|| self.leases.remove(0).1);
        self.leases.push((mac, address));
        address
    }

    fn reply(
        &self,
        packet: &DhcpPacket<&[u8]>,
        request: &Request,
        kind: DhcpMessageType,
        lease: Option<Ipv4Addr>,
    ) -> Answer {
        let refused = kind == DhcpMessageType::Nak;
        let dns = self.subnet.dns().octets();
        let mut options = Vec::new();
        if !refused {
            options.push(DhcpOption { kind: option::DNS, data: &dns });
            options.push(DhcpOption { kind: option::HOST_NAME, data: self.host_name.as_bytes() });
            options.push(DhcpOption { kind: option::DOMAIN, data: self.domain.as_bytes() });
        }
        if !request.client_id.is_empty() {
            options.push(DhcpOption { kind: option::CLIENT_ID, data: &request.client_id }); // RFC 6842
        }
        let mac = packet.client_hardware_address();
        let broadcast = packet.flags().bits() & 0x8000 != 0;
        let client_ip = if refused { Ipv4Address::UNSPECIFIED } else { packet.client_ip() };
        let reply = DhcpRepr {
            message_type: kind,
            transaction_id: packet.transaction_id(),
            secs: 0,
            client_hardware_address: EthernetAddress(mac.0),
            client_ip,
            your_ip: lease.unwrap_or(Ipv4Addr::UNSPECIFIED),
            server_ip: self.subnet.gateway(),
            router: (!refused).then_some(self.subnet.gateway()),
            subnet_mask: (!refused).then_some(self.subnet.mask()),
            relay_agent_ip: Ipv4Address::UNSPECIFIED,
            broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.subnet.gateway()),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: lease.map(|_| LEASE_SECONDS),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &options,
        };
        let mut message = vec![0; REPLY_BYTES];
        let written = reply.emit(&mut DhcpPacket::new_unchecked(&mut message[..]));
        written.expect("the options are bounded and fit");
        // RFC 2131 §4.1: to the address the client has, else to all if it asks so or is refused, else to
        // the address it is about to have.
        let (mac, address) = match client_ip {
            client if !client.is_unspecified() => (Mac(mac.0), client),
            _ if broadcast || refused => (Mac::BROADCAST, Ipv4Addr::BROADCAST),
            _ => (Mac(mac.0), lease.unwrap_or(Ipv4Addr::BROADCAST)),
        };
        let confirmed = lease.filter(|_| kind == DhcpMessageType::Ack);
        Answer { mac, address, message, lease: confirmed }
    }
}

impl Request {
    fn parse(packet: &DhcpPacket<&[u8]>) -> Option<Request> {
        let address = |data: &[u8]| <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from);
        let mut kind = None;
        let mut request = Request {
            kind: DhcpMessageType::Unknown(0),
            requested: None,
            server: None,
            client_id: Vec::new(),
        };
        for option in packet.options() {
            match option.kind {
                option::MESSAGE_TYPE => kind = option.data.first().map(|kind| DhcpMessageType::from(*kind)),
                option::REQUESTED_ADDRESS => request.requested = address(option.data),
                option::SERVER => request.server = address(option.data),
                // Long ones are not repeated, so that a reply has room for the rest.
                option::CLIENT_ID if option.data.len() <= 64 => request.client_id = option.data.to_vec(),
                _ => {}
            }
        }
        request.kind = kind?;
        Some(request)
    }
}

/// A machine's name as a host name: letters, digits and hyphens (RFC 952).
fn host_label(name: &str) -> String {
    let mut label = String::new();
    for c in name.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => label.push(c),
            _ if label.ends_with('-') || label.is_empty() => {}
            _ => label.push('-'),
        }
    }
    label.truncate(63);
    let label = label.trim_end_matches('-');
    if label.is_empty() { "guest".to_owned() } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: DhcpMessageType, last: u8, requested: Option<[u8; 4]>) -> Vec<u8> {
        let request = DhcpRepr {
            message_type: kind,
            transaction_id: 7,
            secs: 0,
            client_hardware_address: EthernetAddress([2, 0, 0, 0, 0, last]),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip: requested.map(Ipv4Addr::from),
            client_identifier: Some(EthernetAddress([2, 0, 0, 0, 0, last])),
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut bytes = vec![0; request.buffer_len()];
        request.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
        bytes
    }

    fn server() -> Leases {
        Leases::new(Subnet::default(), "My Machine!", "vitrine")
    }

    fn parsed(answer: &Answer) -> (DhcpMessageType, Ipv4Addr) {
        let packet = DhcpPacket::new_checked(&answer.message[..]).unwrap();
        let reply = DhcpRepr::parse(&packet).unwrap();
        (reply.message_type, reply.your_ip)
    }

    #[test]
    fn a_card_gets_an_address_and_keeps_it() {
        let mut server = server();
        let offer = server.answer(&message(DhcpMessageType::Discover, 1, None)).unwrap();
        let first = Ipv4Addr::new(10, 0, 2, 15);
        assert_eq!(parsed(&offer), (DhcpMessageType::Offer, first));
        assert_eq!((offer.lease, offer.address), (None, first));
        let ack = server.answer(&message(DhcpMessageType::Request, 1, Some([10, 0, 2, 15]))).unwrap();
        assert_eq!((parsed(&ack).0, ack.lease), (DhcpMessageType::Ack, Some(first)));
        let other = server.answer(&message(DhcpMessageType::Discover, 2, None)).unwrap();
        assert_eq!(parsed(&other).1, Ipv4Addr::new(10, 0, 2, 16));
        let again = server.answer(&message(DhcpMessageType::Discover, 1, None)).unwrap();
        assert_eq!(parsed(&again).1, first);
    }

    #[test]
    fn a_reply_carries_all_a_guest_needs() {
        let mut server = server();
        let answer = server.answer(&message(DhcpMessageType::Request, 1, Some([10, 0, 2, 77]))).unwrap();
        let packet = DhcpPacket::new_checked(&answer.message[..]).unwrap();
        let option =
            |kind| packet.options().find(|option| option.kind == kind).map(|option| option.data.to_vec());
        assert_eq!(packet.your_ip(), Ipv4Addr::new(10, 0, 2, 77), "a wish that can be granted");
        assert_eq!(option(1), Some(vec![255, 255, 255, 0]));
        assert_eq!(option(3), Some(vec![10, 0, 2, 2]));
        assert_eq!(option(6), Some(vec![10, 0, 2, 3]));
        assert_eq!(option(12), Some(b"my-machine".to_vec()));
        assert_eq!(option(15), Some(b"vitrine".to_vec()));
        assert_eq!(option(51), Some(86_400_u32.to_be_bytes().to_vec()));
        assert_eq!(option(61), Some(vec![1, 2, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn an_address_of_elsewhere_is_refused() {
        let mut server = server();
        let nak = server.answer(&message(DhcpMessageType::Request, 1, Some([192, 168, 1, 5]))).unwrap();
        assert_eq!(parsed(&nak).0, DhcpMessageType::Nak);
        assert_eq!((nak.mac, nak.lease), (Mac::BROADCAST, None));
    }

    #[test]
    fn a_thousand_cards_do_not_grow_it() {
        let mut server = server();
        for n in 0..1000_u16 {
            let mut bytes = message(DhcpMessageType::Discover, n as u8, None);
            bytes[32] = (n >> 8) as u8;
            assert!(server.answer(&bytes).is_some());
        }
        assert_eq!(server.leases.len(), 240);
    }

    proptest! {
        #[test]
        fn damaged_messages_do_no_harm(
            at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
            length in any::<prop::sample::Index>(),
        ) {
            let mut bytes = message(DhcpMessageType::Request, 1, Some([10, 0, 2, 15]));
            for (index, value) in at {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            bytes.truncate(length.index(bytes.len()) + 1);
            if let Some(answer) = server().answer(&bytes) {
                prop_assert_eq!(answer.message.len(), REPLY_BYTES);
            }
        }
    }

    #[test]
    fn names_become_labels() {
        assert_eq!(host_label("  Ünicode & more  "), "nicode-more");
        assert_eq!(host_label("!!"), "guest");
        assert_eq!(host_label(&"x".repeat(100)).len(), 63);
    }
}
