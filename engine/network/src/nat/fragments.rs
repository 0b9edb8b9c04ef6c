//! Guests' IPv4 fragments, put together again (RFC 791 §3.2, RFC 1858).

use std::time::{Duration, Instant};

use smoltcp::wire::{IpProtocol, Ipv4Address, Ipv4Packet};

/// Datagrams in the making; the oldest makes room for a new one.
const MOST_DATAGRAMS: usize = 16;
/// Fragments of one datagram: as many as a full one has on a standard Ethernet.
const MOST_FRAGMENTS: usize = 48;
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 65_515;

type Key = (Ipv4Address, Ipv4Address, u8, u16);

struct Datagram {
    key: Key,
    begun: Instant,
    /// (offset, bytes), as they came.
    parts: Vec<(usize, Vec<u8>)>,
    length: Option<usize>,
}

/// All datagrams in the making.
#[derive(Default)]
pub struct Fragments(Vec<Datagram>);

impl Fragments {
    /// Keeps a fragment; gives the payload it completes. One that overlaps another ends its datagram: only
    /// an attack does that.
    pub fn take(&mut self, packet: &Ipv4Packet<&[u8]>, now: Instant) -> Option<Vec<u8>> {
        let protocol: IpProtocol = packet.next_header();
        let key = (packet.src_addr(), packet.dst_addr(), protocol.into(), packet.ident());
        let (offset, part) = (usize::from(packet.frag_offset()), packet.payload());
        self.0.retain(|datagram| now.saturating_duration_since(datagram.begun) < PATIENCE);
        let index = self.0.iter().position(|datagram| datagram.key == key).unwrap_or_else(|| {
            if self.0.len() >= MOST_DATAGRAMS {
                self.0.remove(0);
            }
            self.0.push(Datagram { key, begun: now, parts: Vec::new(), length: None });
            self.0.len() - 1
        });
        let datagram = &mut self.0[index];
        if !datagram.keep(offset, part, packet.more_frags()) {
            self.0.remove(index);
            return None;
        }
        if !datagram.is_complete() {
            return None;
        }
        let mut datagram = self.0.remove(index);
        datagram.parts.sort_by_key(|(offset, _)| *offset);
        Some(datagram.parts.into_iter().flat_map(|(_, part)| part).collect())
    }
}

impl Datagram {
    /// False if the fragment cannot be.
    fn keep(&mut self, offset: usize, part: &[u8], more: bool) -> bool {
        let end = offset + part.len();
        let fits = end <= LONGEST && !part.is_empty() && (!more || part.len().is_multiple_of(8));
        let apart = |(start, other): &(usize, Vec<u8>)| *start >= end || start + other.len() <= offset;
        if !fits || self.parts.len() >= MOST_FRAGMENTS || !self.parts.iter().all(apart) {
            return false;
        }
        if !more && self.length.replace(end).is_some() {
            return false;
        }
        self.parts.push((offset, part.to_vec()));
        self.length.is_none_or(|length| self.parts.iter().all(|(start, part)| start + part.len() <= length))
    }

    fn is_complete(&self) -> bool {
        // They do not overlap, so their lengths add up only if nothing is missing.
        self.length == Some(self.parts.iter().map(|(_, part)| part.len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fragment(ident: u16, offset: usize, more: bool, part: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 20 + part.len()];
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len((20 + part.len()) as u16);
        packet.set_ident(ident);
        packet.clear_flags();
        packet.set_more_frags(more);
        packet.set_frag_offset(offset as u16);
        packet.set_next_header(IpProtocol::Udp);
        packet.payload_mut().copy_from_slice(part);
        bytes
    }

    fn take(fragments: &mut Fragments, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        fragments.take(&Ipv4Packet::new_checked(bytes).unwrap(), now)
    }

    #[test]
    fn any_order_gives_the_datagram() {
        let data: Vec<u8> = (0..4000).map(|n| n as u8).collect();
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut fragments = Fragments::default();
            let done: Vec<_> = order
                .iter()
                .filter_map(|n| {
                    let part = &data[n * 1480..data.len().min((n + 1) * 1480)];
                    take(&mut fragments, &fragment(7, n * 1480, *n < 2, part), Instant::now())
                })
                .collect();
            assert_eq!(done, std::slice::from_ref(&data));
            assert!(fragments.0.is_empty());
        }
    }

    #[test]
    fn overlaps_and_old_ones_are_thrown_away() {
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        assert_eq!(take(&mut fragments, &fragment(1, 0, true, &[1; 16]), now), None);
        assert_eq!(take(&mut fragments, &fragment(1, 8, false, &[2; 16]), now), None);
        assert!(fragments.0.is_empty());
        take(&mut fragments, &fragment(2, 0, true, &[1; 8]), now);
        assert_eq!(take(&mut fragments, &fragment(2, 8, false, &[1; 8]), now + PATIENCE), None);
    }

    proptest! {
        #[test]
        fn any_fragments_stay_bounded(
            parts in prop::collection::vec((0u16..40, 0usize..9000, any::<bool>(), 0usize..1500), 1..400),
        ) {
            let (mut fragments, now) = (Fragments::default(), Instant::now());
            for (ident, offset, more, length) in parts {
                if let Some(whole) = take(&mut fragments, &fragment(ident, offset * 8 % 65_528, more, &vec![0; length]), now) {
                    prop_assert!(whole.len() <= LONGEST);
                }
                prop_assert!(fragments.0.len() <= MOST_DATAGRAMS);
                prop_assert!(fragments.0.iter().all(|datagram| datagram.parts.len() <= MOST_FRAGMENTS));
            }
        }
    }
}
