//! The past of a deterministic machine, as checkpoints to run again from. Their number is bounded by the memory they
//! take: pages that did not change between two are shared, and when there are too many, every other one goes.

use std::collections::{BTreeMap, VecDeque};

use crate::machine::Moment;

/// Moments lie at multiples of this many steps, and translations are forgotten there, so that a run that begins
/// at one is the one it was taken from.
pub const GRID: u64 = 1 << 18;

/// Moments kept near where the person is.
const NEAR: usize = 4;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Steps between two checkpoints at first: a multiple of [`GRID`]. Going back costs running as many again.
    pub interval_steps: u64,
    /// Memory for all of them in bytes, about.
    pub memory_bytes: u64,
}

impl Default for HistoryLimits {
    fn default() -> HistoryLimits {
        HistoryLimits { interval_steps: 16 * GRID, memory_bytes: 256 << 20 }
    }
}

/// What is kept.
#[derive(Debug)]
pub struct History {
    limits: HistoryLimits,
    interval: u64,
    points: BTreeMap<u64, Moment>,
    near: VecDeque<Moment>,
}

impl History {
    /// Nothing yet.
    pub fn new(limits: HistoryLimits) -> History {
        let interval = limits.interval_steps.next_multiple_of(GRID).max(GRID);
        History { limits, interval, points: BTreeMap::new(), near: VecDeque::new() }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The first step one can go back to.
    pub fn first(&self) -> Option<u64> {
        self.points.keys().next().copied()
    }

    /// The next step after `now` at which a checkpoint is due.
    pub fn next_due(&self, now: u64) -> u64 {
        (now / self.interval + 1) * self.interval
    }

    /// Whether one is due here.
    pub fn is_due(&self, now: u64) -> bool {
        now.is_multiple_of(self.interval) && !self.points.contains_key(&now)
    }

    /// The newest, to share pages with.
    pub fn newest(&self) -> Option<&Moment> {
        self.points.values().next_back()
    }

    /// Keeps a checkpoint for good, as far as there is room.
    pub fn add(&mut self, moment: Moment) {
        self.points.insert(moment.steps(), moment);
        while self.points.len() > 2 && self.bytes() > self.limits.memory_bytes {
            self.thin();
        }
    }

    /// Keeps a checkpoint for a while: the person is near.
    pub fn add_near(&mut self, moment: Moment) {
        if self.near.len() == NEAR {
            self.near.pop_front();
        }
        self.near.push_back(moment);
    }

    /// Every other one goes, but the first; from now on they lie twice as far apart.
    fn thin(&mut self) {
        self.interval *= 2;
        let (first, interval) = (self.first(), self.interval);
        let before = self.points.len();
        self.points.retain(|steps, _| Some(*steps) == first || steps.is_multiple_of(interval));
        if self.points.len() == before {
            // What is left lies on no common grid; the oldest but the first goes.
            let second = self.points.keys().nth(1).copied();
            second.map(|steps| self.points.remove(&steps));
        }
    }

    /// Memory they take, pages that several share counted once.
    pub fn bytes(&self) -> u64 {
        let mut seen = std::collections::HashSet::new();
        self.points.values().chain(&self.near).map(|moment| moment.unseen_bytes(&mut seen)).sum()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// The last one at or before `steps`.
    pub fn before(&self, steps: u64) -> Option<&Moment> {
        let kept = self.points.range(..=steps).next_back().map(|(_, moment)| moment);
        let near = self.near.iter().filter(|moment| moment.steps() <= steps);
        kept.into_iter().chain(near).max_by_key(|moment| moment.steps())
    }

    /// Going on from here may lead elsewhere than last time.
    pub fn forget_after(&mut self, steps: u64) {
        self.points.split_off(&(steps + 1));
        self.near.retain(|moment| moment.steps() <= steps);
    }

    /// The past does not lead to the present any more: it was changed.
    pub fn forget(&mut self) {
        self.points.clear();
        self.near.clear();
    }
}
