//! What a check of an image finds.

/// How many findings are told in words.
const TOLD: usize = 20;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong, in words; the first ones only.
    pub damage: Vec<String>,
    /// How much is wrong.
    pub damaged: u64,
    /// Bytes of the file that nothing uses: room that is lost, and no harm.
    pub leaked_bytes: u64,
    /// Bytes of the file that hold the disk's content.
    pub used_bytes: u64,
    /// The caller gave up before the end.
    pub is_cancelled: bool,
}

impl Findings {
    /// Takes down a finding.
    pub(crate) fn add(&mut self, what: String) {
        self.damaged += 1;
        if self.damage.len() < TOLD {
            self.damage.push(what);
        }
    }

    /// Nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged == 0 && !self.is_cancelled
    }
}
