//! What a machine may take of the host's processors, as its user sets it.

use serde::{Deserialize, Serialize};

/// Shares of a machine that nobody favours.
pub const DEFAULT_SHARES: u32 = 1024;
/// Most shares a machine may have.
pub const MOST_SHARES: u32 = 1_000_000;

/// A machine's part of the host's processors. Percentages are of one host CPU: a machine with two vCPUs can
/// use 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allotment {
    /// Weight against other machines that want the same processors.
    #[serde(default = "default_shares")]
    pub shares: u32,
    /// Most it may use, though nobody else wants it.
    #[serde(default)]
    pub cap_percent: Option<u32>,
    /// What it gets before anybody else gets anything.
    #[serde(default)]
    pub reservation_percent: u32,
}

const fn default_shares() -> u32 {
    DEFAULT_SHARES
}

impl Default for Allotment {
    fn default() -> Allotment {
        Allotment { shares: DEFAULT_SHARES, cap_percent: None, reservation_percent: 0 }
    }
}

/// Why an allotment cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllotmentError {
    /// Shares of 0, or too many.
    #[error("shares must be between 1 and {MOST_SHARES}, not {0}")]
    Shares(u32),
    /// A cap that would stop the machine, or that its vCPUs cannot reach.
    #[error("the cap must be between 1 and {most} percent (100 for each virtual CPU), not {cap}")]
    Cap {
        /// What was asked for.
        cap: u32,
        /// What can be.
        most: u32,
    },
    /// A reservation above the cap or what the vCPUs can use.
    #[error("a reservation of {reservation} percent cannot be used: the machine may take {most} percent")]
    Reservation {
        /// What was asked for.
        reservation: u32,
        /// What can be.
        most: u32,
    },
}

impl Allotment {
    /// Whether a machine of `cpus` vCPUs can have this.
    pub fn check(&self, cpus: u32) -> Result<(), AllotmentError> {
        let all = cpus.saturating_mul(100);
        if !(1..=MOST_SHARES).contains(&self.shares) {
            return Err(AllotmentError::Shares(self.shares));
        }
        if let Some(cap) = self.cap_percent.filter(|cap| !(1..=all).contains(cap)) {
            return Err(AllotmentError::Cap { cap, most: all });
        }
        let most = self.cap_percent.unwrap_or(all);
        if self.reservation_percent > most {
            return Err(AllotmentError::Reservation { reservation: self.reservation_percent, most });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_its_bounds() {
        let usual = Allotment::default();
        assert_eq!(usual.check(1), Ok(()));
        assert_eq!(Allotment { shares: 0, ..usual }.check(1), Err(AllotmentError::Shares(0)));
        let capped = Allotment { cap_percent: Some(150), ..usual };
        assert_eq!(capped.check(1), Err(AllotmentError::Cap { cap: 150, most: 100 }));
        assert_eq!(capped.check(2), Ok(()));
        let greedy = Allotment { reservation_percent: 50, cap_percent: Some(25), ..usual };
        assert_eq!(greedy.check(4), Err(AllotmentError::Reservation { reservation: 50, most: 25 }));
    }
}
