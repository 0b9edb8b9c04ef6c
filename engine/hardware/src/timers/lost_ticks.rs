//! What becomes of ticks that could not be told one by one, because the guest or the host was late: they are merged
//! into the next, or replayed one after the other. The 8254, the RTC and the local APIC timers keep the same books.
//!
//! A tick counts as delivered when it becomes a request of its own. One that finds the request before it not yet
//! taken cannot: the interrupt controllers remember only one. A request that the guest takes back before it took it, by
//! stopping the timer, is withdrawn. Always: raised = delivered + merged + owed + withdrawn.

use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;

/// The policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LostTicks {
    /// The guest is told once, as by real hardware. Guests that keep time by a clock want this.
    #[default]
    Merge,
    /// The guest is told as often as it ticked, later and faster. Guests that count ticks keep time then.
    Replay,
}

impl std::str::FromStr for LostTicks {
    type Err = String;

    fn from_str(text: &str) -> Result<LostTicks, String> {
        match text.to_ascii_lowercase().as_str() {
            "merge" => Ok(LostTicks::Merge),
            "replay" => Ok(LostTicks::Replay),
            other => Err(format!("'{other}' is no policy for lost ticks; there are merge and replay")),
        }
    }
}

/// Ticks of at most this time are replayed; older ones are merged after all.
const REPLAYED_NS: u64 = 1_000_000_000;
/// Most ticks that are owed, whatever their period.
const OWED_MAX: u64 = 10_000;
/// Replayed ticks follow each other by half a period, and no faster than this.
const SHORTEST_GAP_NS: u64 = 20_000;

/// What became of a timer's ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TickCounts {
    /// Ticks that came due.
    pub raised: u64,
    /// Ticks that became a request of their own, and stayed one.
    pub delivered: u64,
    /// Ticks among those that did so late, after ticks that came due after them.
    pub replayed: u64,
    /// Ticks the guest is told of only together with another.
    pub merged: u64,
    /// Ticks still to be replayed.
    pub owed: u64,
    /// Ticks that became a request, which was gone before the guest took it: the guest programmed the timer anew.
    pub withdrawn: u64,
}

/// A timer's books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    policy: LostTicks,
    counts: TickCounts,
}

impl Ticks {
    /// The policy.
    pub fn policy(&self) -> LostTicks {
        self.policy
    }

    /// Changes the policy. What is owed is merged when nothing is replayed any more.
    pub fn set_policy(&mut self, policy: LostTicks) {
        self.policy = policy;
        if policy == LostTicks::Merge {
            self.forgive();
        }
    }

    /// What became of the ticks so far.
    pub fn counts(&self) -> TickCounts {
        self.counts
    }

    /// The timer was programmed anew, stopped or reset: what was owed is not replayed.
    pub fn forgive(&mut self) {
        self.counts.merged += std::mem::take(&mut self.counts.owed);
    }

    /// A request is gone that had not been taken.
    pub fn withdraw(&mut self) {
        // After a machine was restored it may be one that these books know nothing of.
        if self.counts.delivered > 0 {
            self.counts.delivered -= 1;
            self.counts.withdrawn += 1;
        }
    }

    /// `came` ticks of `period_ns` came due; `pending`: the request before has not been taken. Says whether to request
    /// an interrupt now.
    pub fn settle(&mut self, came: u64, pending: bool, period_ns: u64) -> bool {
        let counts = &mut self.counts;
        counts.raised = counts.raised.saturating_add(came);
        let waiting = counts.owed.saturating_add(came);
        let request = waiting > 0 && !pending;
        counts.delivered += u64::from(request);
        counts.replayed += u64::from(request && counts.owed > 0);
        let left = waiting - u64::from(request);
        let most = match self.policy {
            LostTicks::Merge => 0,
            LostTicks::Replay => (REPLAYED_NS / period_ns.max(1)).clamp(1, OWED_MAX),
        };
        counts.owed = left.min(most);
        counts.merged = counts.merged.saturating_add(left - counts.owed);
        request
    }

    /// When a tick that is owed should be tried next.
    pub fn next_replay(&self, now: Nanoseconds, period_ns: u64) -> Option<Nanoseconds> {
        (self.counts.owed > 0).then(|| now + (period_ns / 2).max(SHORTEST_GAP_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn adds_up(ticks: &Ticks) {
        let TickCounts { raised, delivered, merged, owed, withdrawn, .. } = ticks.counts();
        assert_eq!(raised, delivered + merged + owed + withdrawn);
    }

    #[test]
    fn merged_ticks_are_told_once() {
        let mut ticks = Ticks::default();
        assert!(ticks.settle(1, false, MS));
        assert!(ticks.settle(3, false, MS));
        assert!(!ticks.settle(2, true, MS), "the last request was not taken yet");
        assert!(!ticks.settle(0, false, MS));
        let expected = TickCounts { raised: 6, delivered: 2, merged: 4, ..TickCounts::default() };
        assert_eq!((ticks.counts(), ticks.next_replay(0, MS)), (expected, None));
    }

    #[test]
    fn replayed_ticks_are_told_one_by_one() {
        let mut ticks = Ticks::default();
        ticks.set_policy(LostTicks::Replay);
        assert!(ticks.settle(3, false, MS));
        assert_eq!(ticks.next_replay(10, MS), Some(10 + MS / 2));
        assert!(!ticks.settle(0, true, MS));
        assert!(ticks.settle(0, false, MS) && ticks.settle(0, false, MS) && !ticks.settle(0, false, MS));
        let expected = TickCounts { raised: 3, delivered: 3, replayed: 2, ..TickCounts::default() };
        assert_eq!(ticks.counts(), expected);
    }

    #[test]
    fn only_a_seconds_worth_is_replayed() {
        let mut ticks = Ticks::default();
        ticks.set_policy(LostTicks::Replay);
        ticks.settle(5000, false, 10 * MS);
        assert_eq!((ticks.counts().owed, ticks.counts().merged), (100, 4899));
        adds_up(&ticks);
        ticks.settle(1 << 40, true, 1);
        assert_eq!(ticks.counts().owed, OWED_MAX);
        adds_up(&ticks);
        ticks.set_policy(LostTicks::Merge);
        assert_eq!((ticks.counts().owed, ticks.next_replay(0, 1)), (0, None));
        adds_up(&ticks);
    }

    #[test]
    fn a_request_that_is_taken_back_is_withdrawn() {
        let mut ticks = Ticks::default();
        ticks.withdraw();
        assert_eq!(ticks.counts(), TickCounts::default(), "there was none");
        ticks.set_policy(LostTicks::Replay);
        ticks.settle(3, false, MS);
        ticks.forgive();
        ticks.withdraw();
        let expected = TickCounts { raised: 3, merged: 2, withdrawn: 1, ..TickCounts::default() };
        assert_eq!(ticks.counts(), expected);
        adds_up(&ticks);
    }

    #[test]
    fn policies_are_read_by_name() {
        assert_eq!("Replay".parse(), Ok(LostTicks::Replay));
        assert!("slew".parse::<LostTicks>().is_err());
    }
}
