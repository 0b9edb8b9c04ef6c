//! The statistics registers: counted since they were last read (SDM §13.7).

use serde::{Deserialize, Serialize};

/// Registers from 0x4000 on, as indices.
mod index {
    pub const RECEIVED_BY_SIZE: usize = 0x5C / 4;
    pub const GOOD_RECEIVED: usize = 0x74 / 4;
    pub const BROADCASTS_RECEIVED: usize = 0x78 / 4;
    pub const MULTICASTS_RECEIVED: usize = 0x7C / 4;
    pub const GOOD_SENT: usize = 0x80 / 4;
    /// Octets are two registers; reading the higher one clears both.
    pub const GOOD_OCTETS_RECEIVED: usize = 0x88 / 4;
    pub const GOOD_OCTETS_SENT: usize = 0x90 / 4;
    pub const NO_BUFFER: usize = 0xA0 / 4;
    pub const OVERSIZE: usize = 0xAC / 4;
    pub const OCTETS_RECEIVED: usize = 0xC0 / 4;
    pub const OCTETS_SENT: usize = 0xC8 / 4;
    pub const RECEIVED: usize = 0xD0 / 4;
    pub const SENT: usize = 0xD4 / 4;
    pub const SENT_BY_SIZE: usize = 0xD8 / 4;
    pub const MULTICASTS_SENT: usize = 0xF0 / 4;
    pub const BROADCASTS_SENT: usize = 0xF4 / 4;
    pub const SEGMENTED: usize = 0xF8 / 4;
    pub const COUNT: usize = 0x100 / 4;
}

/// The counters. They stop at their highest value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics(Vec<u32>);

/// Bytes of the frame check sequence, which the counters count.
const CHECK_SEQUENCE: usize = 4;

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics(vec![0; index::COUNT])
    }
}

impl Statistics {
    /// Whether a saved state has the right shape.
    pub fn is_valid(&self) -> bool {
        self.0.len() == index::COUNT
    }

    /// A guest reads the register `offset` bytes from the first.
    pub fn read(&mut self, offset: u64) -> u32 {
        let at = (offset / 4) as usize % index::COUNT;
        let octets = [
            index::GOOD_OCTETS_RECEIVED,
            index::GOOD_OCTETS_SENT,
            index::OCTETS_RECEIVED,
            index::OCTETS_SENT,
        ];
        if octets.contains(&at) {
            return self.0[at];
        }
        if octets.contains(&at.wrapping_sub(1)) {
            self.0[at - 1] = 0;
        }
        std::mem::take(&mut self.0[at])
    }

    fn count(&mut self, at: usize) {
        self.0[at] = self.0[at].saturating_add(1);
    }

    fn count_octets(&mut self, at: usize, octets: usize) {
        let before = u64::from(self.0[at + 1]) << 32 | u64::from(self.0[at]);
        let after = before.saturating_add(octets as u64);
        (self.0[at], self.0[at + 1]) = (after as u32, (after >> 32) as u32);
    }

    fn count_destination(&mut self, frame: &[u8], broadcast: usize, multicast: usize) {
        if frame.starts_with(&[0xFF; 6]) {
            self.count(broadcast);
        } else if frame[0] & 1 != 0 {
            self.count(multicast);
        }
    }

    /// A frame was received. It has a header.
    pub fn received(&mut self, frame: &[u8]) {
        let octets = frame.len() + CHECK_SEQUENCE;
        self.count(index::RECEIVED);
        self.count(index::GOOD_RECEIVED);
        self.count(index::RECEIVED_BY_SIZE + size_class(octets));
        self.count_octets(index::OCTETS_RECEIVED, octets);
        self.count_octets(index::GOOD_OCTETS_RECEIVED, octets);
        self.count_destination(frame, index::BROADCASTS_RECEIVED, index::MULTICASTS_RECEIVED);
    }

    /// A frame came that is longer than the guest takes.
    pub fn oversize(&mut self) {
        self.count(index::OVERSIZE);
    }

    /// A frame came and no descriptor was free.
    pub fn no_buffer(&mut self) {
        self.count(index::NO_BUFFER);
    }

    /// A frame was sent. It has a header.
    pub fn sent(&mut self, frame: &[u8]) {
        let octets = frame.len() + CHECK_SEQUENCE;
        self.count(index::SENT);
        self.count(index::GOOD_SENT);
        self.count(index::SENT_BY_SIZE + size_class(octets));
        self.count_octets(index::OCTETS_SENT, octets);
        self.count_octets(index::GOOD_OCTETS_SENT, octets);
        self.count_destination(frame, index::BROADCASTS_SENT, index::MULTICASTS_SENT);
    }

    /// A packet was sent that the driver asked to be cut.
    pub fn segmented(&mut self) {
        self.count(index::SEGMENTED);
    }
}

/// Which of the six registers by size counts a frame of so many octets.
fn size_class(octets: usize) -> usize {
    [64, 127, 255, 511, 1023].iter().position(|most| octets <= *most).unwrap_or(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_clears() {
        let mut statistics = Statistics::default();
        statistics.received(&[0xFF; 60]);
        statistics.received(&[0x02; 200]);
        assert_eq!((statistics.read(0x74), statistics.read(0x74)), (2, 0));
        assert_eq!((statistics.read(0x78), statistics.read(0x7C)), (1, 0));
        assert_eq!((statistics.read(0x5C), statistics.read(0x64)), (1, 1));
        assert_eq!((statistics.read(0x88), statistics.read(0x88), statistics.read(0x8C)), (268, 268, 0));
        assert_eq!(statistics.read(0x88), 0, "the higher half cleared both");
    }
}
