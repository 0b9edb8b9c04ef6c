//! A record of slices: the host's interval timer as the timer scope draws it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Slices kept; older ones are dropped and counted.
const KEPT: usize = 4096;

/// Why a vCPU gave its worker back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SliceEnd {
    /// It had nothing to do.
    Parked,
    /// It spun for another vCPU and gave way.
    Yielded,
    /// The monitor wanted something of it.
    Kicked,
    /// The quantum timer: its time was up.
    Quantum,
    /// The quantum timer: its machine was at its cap.
    Cap,
}

/// One slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Which vCPU, by [`super::Entity::id`].
    pub entity: u64,
    /// Begin, in nanoseconds since the scheduler was started.
    pub begun_ns: u64,
    /// Host time from begin to end, in nanoseconds.
    pub lasted_ns: u64,
    /// CPU time it used, in nanoseconds: less than it lasted when the host had others to run.
    pub used_ns: u64,
    /// What the timer was set to, in nanoseconds after the begin.
    pub granted_ns: u64,
    /// Why it ended.
    pub end: SliceEnd,
}

/// The latest slices, oldest first.
#[derive(Debug, Default)]
pub(super) struct SliceLog {
    slices: VecDeque<Slice>,
    /// Number of the first kept slice, counted from the start.
    first: u64,
}

impl SliceLog {
    pub fn push(&mut self, slice: Slice) {
        if self.slices.len() == KEPT {
            self.slices.pop_front();
            self.first += 1;
        }
        self.slices.push_back(slice);
    }

    /// The slices from number `from` on, and the number after the last.
    pub fn since(&self, from: u64) -> (Vec<Slice>, u64) {
        let skip = from.saturating_sub(self.first) as usize;
        let slices = self.slices.iter().skip(skip).copied().collect();
        (slices, self.first + self.slices.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_slices_go_and_numbers_stay() {
        let mut log = SliceLog::default();
        for n in 0..KEPT as u64 + 10 {
            let slice = Slice {
                entity: n,
                begun_ns: n,
                lasted_ns: 1,
                used_ns: 1,
                granted_ns: 1,
                end: SliceEnd::Parked,
            };
            log.push(slice);
        }
        let (all, next) = log.since(0);
        assert_eq!((all.len(), all[0].entity, next), (KEPT, 10, KEPT as u64 + 10));
        let (new, next) = log.since(next - 2);
        assert_eq!((new.len(), new[0].entity), (2, next - 2));
        assert!(log.since(next).0.is_empty());
    }
}
