//! The host's resolvers, as resolv.conf names them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The file may change as the host changes networks; it is looked at no more often than this.
const FRESH: Duration = Duration::from_secs(5);
/// More are not asked (resolv.conf(5), MAXNS).
const MOST: usize = 3;
const PORT: u16 = 53;

/// Where the resolvers' addresses come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file like /etc/resolv.conf.
    File(PathBuf),
    /// These.
    Fixed(Vec<SocketAddr>),
}

impl Default for Source {
    fn default() -> Source {
        Source::File("/etc/resolv.conf".into())
    }
}

/// The resolvers, and which one is asked now.
pub struct Resolvers {
    source: Source,
    known: Vec<SocketAddr>,
    read_at: Option<Instant>,
    turn: usize,
}

impl Resolvers {
    /// The resolvers of `source`.
    pub fn new(source: Source) -> Resolvers {
        Resolvers { source, known: Vec::new(), read_at: None, turn: 0 }
    }

    /// The one to ask.
    pub fn current(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.read_at.is_none_or(|at| now.saturating_duration_since(at) >= FRESH) {
            self.read_at = Some(now);
            self.known = match &self.source {
                Source::Fixed(known) => known.clone(),
                Source::File(path) => parse(&std::fs::read_to_string(path).unwrap_or_default()),
            };
        }
        self.known.get(self.turn % self.known.len().max(1)).copied()
    }

    /// The current one did not answer: the next question goes to another.
    pub fn turn_away(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_resolver = words.next() == Some("nameserver");
        words.next().filter(|_| is_resolver)?.parse::<IpAddr>().ok()
    });
    addresses.take(MOST).map(|address| SocketAddr::new(address, PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_up_to_three() {
        let text = "# comment\nsearch lan\nnameserver 192.0.2.1\nnameserver\t::1\nnameserver fe80::1%eth0\n\
                    nameserver 127.0.0.53 \nnameserver 192.0.2.9\n";
        let expected = ["192.0.2.1:53", "[::1]:53", "127.0.0.53:53"];
        assert_eq!(parse(text), expected.map(|address| address.parse().unwrap()));
        assert_eq!(parse(""), []);
    }

    #[test]
    fn one_that_fails_has_its_turn_later() {
        let (a, b) = ("192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        let mut resolvers = Resolvers::new(Source::Fixed(vec![a, b]));
        let now = Instant::now();
        assert_eq!(resolvers.current(now), Some(a));
        resolvers.turn_away();
        assert_eq!(resolvers.current(now), Some(b));
        resolvers.turn_away();
        assert_eq!(resolvers.current(now), Some(a));
        let mut none = Resolvers::new(Source::Fixed(Vec::new()));
        none.turn_away();
        assert_eq!(none.current(now), None);
    }
}
