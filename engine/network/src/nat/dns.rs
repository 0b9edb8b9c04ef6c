//! What the DNS proxy answers itself, and what it passes on (RFC 1035).

use std::net::Ipv4Addr;

use smoltcp::wire::{DnsPacket, DnsQueryType, DnsQuestion};

/// The domain guests are in, and the names of the host in it.
pub const DOMAIN: &str = "vitrine";
const GATEWAY_NAMES: [&str; 2] = ["gateway", "gateway.vitrine"];
/// Header: flags of a response with recursion available (§4.1.1).
const RESPONSE: u16 = 0x8080;
const RECURSION_DESIRED: u16 = 0x0100;
const SERVER_FAILURE: u16 = 2;
const TTL_SECONDS: u32 = 60;
const HEADER: usize = 12;

/// What to do with a guest's message.
#[derive(Debug, PartialEq, Eq)]
pub enum Query {
    /// This is the answer.
    Answered(Vec<u8>),
    /// It goes to the host's resolver.
    Passed,
    /// It is no question.
    Refused,
}

/// Looks into a guest's message. `gateway` is the address its names stand for.
pub fn consider(message: &[u8], gateway: Ipv4Addr) -> Query {
    let Ok(packet) = DnsPacket::new_checked(message) else { return Query::Refused };
    let is_question = message[2] & 0x80 == 0 && packet.question_count() >= 1;
    if !is_question {
        return Query::Refused;
    }
    let Ok((rest, question)) = DnsQuestion::parse(packet.payload()) else { return Query::Refused };
    let mut name = String::new();
    for label in packet.parse_name(question.name) {
        let Ok(label) = label else { return Query::Refused };
        if name.len() + label.len() > 253 {
            return Query::Refused;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| char::from(*byte).to_ascii_lowercase()));
    }
    if packet.question_count() != 1 || !GATEWAY_NAMES.contains(&name.as_str()) {
        return Query::Passed;
    }
    let end = message.len() - rest.len();
    let address = (question.type_ == DnsQueryType::A).then_some(gateway);
    Query::Answered(answer(&message[..end], address))
}

/// The answer to a question that fills `question` up: an address, or that there is none of that kind.
fn answer(question: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    let mut reply = reply_to(question, 0);
    reply[4..HEADER].copy_from_slice(&[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some(address) = address {
        reply.extend([0xC0, HEADER as u8, 0, 1, 0, 1]); // the name above, type A, class IN
        reply.extend(TTL_SECONDS.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    reply
}

/// The answer to a question when no resolver can be asked.
pub fn failure(question: &[u8]) -> Option<Vec<u8>> {
    (question.len() >= HEADER).then(|| reply_to(question, SERVER_FAILURE))
}

fn reply_to(question: &[u8], code: u16) -> Vec<u8> {
    let mut reply = question.to_vec();
    let asked = u16::from_be_bytes([question[2], question[3]]);
    let flags = RESPONSE | asked & (0x7800 | RECURSION_DESIRED) | code;
    reply[2..4].copy_from_slice(&flags.to_be_bytes());
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn the_gateway_has_a_name() {
        for name in ["gateway", "Gateway.VITRINE"] {
            let Query::Answered(reply) = consider(&question(name, 1), GATEWAY) else { panic!("{name}") };
            assert_eq!(reply[..8], [0xAB, 0xCD, 0x81, 0x80, 0, 1, 0, 1]);
            assert_eq!(reply[reply.len() - 4..], GATEWAY.octets());
        }
        let Query::Answered(none) = consider(&question("gateway", 28), GATEWAY) else { panic!() };
        assert_eq!(none[6..8], [0, 0], "it has no address of version 6");
    }

    #[test]
    fn other_names_are_passed_on() {
        for name in ["example.org", "gateway.example.org", "vitrine", ""] {
            assert_eq!(consider(&question(name, 1), GATEWAY), Query::Passed, "{name}");
        }
        let mut response = question("gateway", 1);
        response[2] |= 0x80;
        assert_eq!(consider(&response, GATEWAY), Query::Refused);
    }

    #[test]
    fn a_failure_repeats_the_question() {
        let reply = failure(&question("example.org", 1)).unwrap();
        assert_eq!(reply[2..4], [0x81, 0x82]);
        assert_eq!(reply[4..], question("example.org", 1)[4..]);
        assert_eq!(failure(&[1, 2, 3]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_considered(bytes in prop::collection::vec(any::<u8>(), 0..80), tail in any::<bool>()) {
            let mut message = if tail { question("gateway", 1) } else { Vec::new() };
            message.extend(&bytes);
            consider(&message, GATEWAY);
            failure(&message);
        }

        #[test]
        fn names_that_point_in_circles_end(jumps in prop::collection::vec((0u8..64, 0u8..64), 1..16)) {
            let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for (high, low) in jumps {
                message.extend([0xC0 | high & 1, low]);
            }
            message.extend([0, 1, 0, 1]);
            consider(&message, GATEWAY);
        }
    }
}
