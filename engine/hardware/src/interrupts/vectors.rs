//! A set of 256 interrupt vectors: the IRR, ISR and TMR of a local APIC.

use serde::{Deserialize, Serialize};

/// One bit per vector, as eight 32-bit registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vectors([u32; 8]);

impl Vectors {
    /// Whether `vector` is in the set.
    pub fn contains(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] & 1 << (vector & 31) != 0
    }

    /// Puts `vector` in or takes it out.
    pub fn set(&mut self, vector: u8, present: bool) {
        let word = &mut self.0[usize::from(vector >> 5)];
        *word = *word & !(1 << (vector & 31)) | u32::from(present) << (vector & 31);
    }

    /// All of the set, lowest first.
    pub fn list(&self) -> Vec<u8> {
        (0..=u8::MAX).filter(|vector| self.contains(*vector)).collect()
    }

    /// The highest vector of the set.
    pub fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|word| *word != 0)?;
        Some((word as u32 * 32 + self.0[word].ilog2()) as u8)
    }

    /// Register `index` (0 to 7) of the eight.
    pub fn word(&self, index: usize) -> u32 {
        self.0[index & 7]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_vector_wins() {
        let mut set = Vectors::default();
        assert_eq!(set.highest(), None);
        for vector in [0x10, 0xFF, 0x3F, 0x20] {
            set.set(vector, true);
        }
        assert_eq!(set.highest(), Some(0xFF));
        set.set(0xFF, false);
        assert_eq!(set.highest(), Some(0x3F));
        assert!(set.contains(0x20) && !set.contains(0x21));
        assert_eq!(set.word(1), 0x8000_0001);
        assert_eq!(set.list(), [0x10, 0x20, 0x3F]);
    }
}
