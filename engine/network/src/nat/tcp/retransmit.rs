//! When to send again: the round trip's estimate and the timer made of it (RFC 6298).

use std::time::{Duration, Instant};

use super::sequence::Sequence;

/// Before the first measurement, RFC 6298 §2.1.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// A guest may be slow, or not run for a while, so the estimate never goes below.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(250);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// After this many in a row without an answer the guest is taken for gone; about a quarter of an hour,
/// RFC 1122 §4.2.3.5 (R2).
const MOST_RETRIES: u32 = 18;

/// The timer of one connection's sending half.
#[derive(Clone, Debug)]
pub struct RetransmitTimer {
    smoothed: Option<(Duration, Duration)>,
    timeout: Duration,
    retries: u32,
    deadline: Option<Instant>,
    /// The end of the segment that is being timed, and when it was sent.
    timed: Option<(Sequence, Instant)>,
}

impl Default for RetransmitTimer {
    fn default() -> RetransmitTimer {
        RetransmitTimer { smoothed: None, timeout: FIRST_TIMEOUT, retries: 0, deadline: None, timed: None }
    }
}

impl RetransmitTimer {
    /// When it goes off.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Something that must be answered was sent; `end` is the sequence number after it.
    pub fn sent(&mut self, end: Sequence, now: Instant) {
        self.deadline.get_or_insert(now + self.timeout);
        if self.retries == 0 {
            self.timed.get_or_insert((end, now));
        }
    }

    /// The guest answered; `waits` says whether more is outstanding.
    pub fn answered(&mut self, ack: Sequence, waits: bool, now: Instant) {
        if let Some((end, since)) = self.timed
            && !end.is_after(ack)
        {
            self.timed = None;
            self.measure(now.saturating_duration_since(since));
        }
        self.retries = 0;
        self.deadline = waits.then(|| now + self.timeout);
    }

    /// It went off: says whether to try again. Doubles the wait (§5.5).
    pub fn expired(&mut self) -> bool {
        self.deadline = None;
        // Karn: what is sent twice is not timed.
        self.timed = None;
        self.retries += 1;
        self.timeout = (self.timeout * 2).min(LONGEST_TIMEOUT);
        self.retries <= MOST_RETRIES
    }

    /// The guest is there, though it acknowledged nothing new (its window may be closed).
    pub fn heard(&mut self) {
        self.retries = 0;
    }

    /// Waits once more, as long as before.
    pub fn postpone(&mut self, now: Instant) {
        self.deadline = Some(now + self.timeout);
        self.timed = None;
    }

    /// A segment was sent again before its time: what is under way says nothing of the round trip.
    pub fn repeated(&mut self) {
        self.timed = None;
    }

    /// RFC 6298 §2.2 and §2.3.
    fn measure(&mut self, sample: Duration) {
        let (smoothed, variation) = match self.smoothed {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => {
                ((smoothed * 7 + sample) / 8, (variation * 3 + smoothed.abs_diff(sample)) / 4)
            }
        };
        self.smoothed = Some((smoothed, variation));
        self.timeout = (smoothed + variation * 4).clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_ends() {
        let (mut timer, start) = (RetransmitTimer::default(), Instant::now());
        timer.sent(Sequence(10), start);
        assert_eq!(timer.deadline(), Some(start + FIRST_TIMEOUT));
        assert!(timer.expired());
        timer.sent(Sequence(10), start);
        assert_eq!(timer.deadline(), Some(start + 2 * FIRST_TIMEOUT));
        assert_eq!((0..100).take_while(|_| timer.expired()).count() as u32, MOST_RETRIES - 1);
    }

    #[test]
    fn the_round_trip_is_learned() {
        let (mut timer, mut now) = (RetransmitTimer::default(), Instant::now());
        for n in 0..50 {
            timer.sent(Sequence(n), now);
            now += Duration::from_millis(400);
            timer.answered(Sequence(n), false, now);
            assert_eq!(timer.deadline(), None);
        }
        assert!((400..460).contains(&timer.timeout.as_millis()), "{:?}", timer.timeout);
        timer.answered(Sequence(50), true, now);
        assert!(timer.deadline().is_some());
    }
}
