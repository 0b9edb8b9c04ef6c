//! The latest timer edges of one machine, as the timer scope draws them: which device was due, and how late the monitor
//! was. Always kept, in memory of a fixed size.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

/// Edges kept; older ones are dropped.
const KEPT: usize = 8192;

/// One deadline of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Which device, by its alarm.
    pub alarm: u8,
    /// When it was served, in host nanoseconds of [`crate::scheduler::Scheduler::now_ns`].
    pub host_ns: u64,
    /// When it was served, in guest nanoseconds.
    pub guest_ns: u64,
    /// How late that was, in guest nanoseconds.
    pub late_ns: u64,
}

/// The latest edges, oldest first.
#[derive(Default)]
pub struct Edges(Mutex<Log>);

#[derive(Default)]
struct Log {
    edges: VecDeque<Edge>,
    /// Number of the first kept, counted from the start.
    first: u64,
}

impl Edges {
    /// Remembers one.
    pub fn push(&self, edge: Edge) {
        let mut log = self.0.lock();
        if log.edges.len() == KEPT {
            log.edges.pop_front();
            log.first += 1;
        }
        log.edges.push_back(edge);
    }

    /// Those from number `from` on, as far as they are kept, and the number to ask from next.
    pub fn since(&self, from: u64) -> (Vec<Edge>, u64) {
        let log = self.0.lock();
        let skip = from.saturating_sub(log.first) as usize;
        (log.edges.iter().skip(skip).copied().collect(), log.first + log.edges.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_edges_go_and_numbers_stay() {
        let edges = Edges::default();
        for n in 0..KEPT as u64 + 3 {
            edges.push(Edge { alarm: 0, host_ns: n, guest_ns: n, late_ns: 0 });
        }
        let (all, next) = edges.since(0);
        assert_eq!((all.len(), all[0].host_ns, next), (KEPT, 3, KEPT as u64 + 3));
        assert_eq!(edges.since(next - 1).0[0].host_ns, next - 1);
        assert!(edges.since(next).0.is_empty());
    }
}
