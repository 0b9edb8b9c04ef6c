//! TCP sequence numbers: positions in a stream, modulo 2³² (RFC 9293 §3.4).

use std::ops::{Add, Sub};

/// A sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence(pub u32);

impl Sequence {
    /// Whether it comes after `other`, by less than half of the circle.
    pub fn is_after(self, other: Sequence) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }

    /// The later of two.
    pub fn latest(self, other: Sequence) -> Sequence {
        if other.is_after(self) { other } else { self }
    }
}

impl Add<usize> for Sequence {
    type Output = Sequence;

    fn add(self, bytes: usize) -> Sequence {
        Sequence(self.0.wrapping_add(bytes as u32))
    }
}

/// How many bytes it is after another one; zero if it is before.
impl Sub for Sequence {
    type Output = usize;

    fn sub(self, other: Sequence) -> usize {
        if other.is_after(self) { 0 } else { self.0.wrapping_sub(other.0) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_goes_around_the_circle() {
        let (before, after) = (Sequence(u32::MAX - 2), Sequence(5));
        assert!(after.is_after(before) && !before.is_after(after));
        assert_eq!((after - before, before - after), (8, 0));
        assert_eq!(before + 8, after);
        assert_eq!(before.latest(after), after);
    }
}
