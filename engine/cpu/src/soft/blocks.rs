//! The cache of decoded blocks.

/// All decoded blocks of one vCPU.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Drop every block before the next one runs.
    pub(super) flush_requested: bool,
}

impl Blocks {
    /// No blocks.
    pub fn new() -> Blocks {
        Blocks::default()
    }
}

impl super::state::Cpu {
    /// Must be called by every store that did not go through a direct write entry, after it was made: `bytes`
    /// at memory offset `offset` (inside one page) changed. Drops overwritten code.
    pub fn code_written(&mut self, offset: u64, bytes: u64) {
        if self.watch.wrote(offset, offset + bytes) != 0 {
            self.blocks.flush_requested = true;
            self.leave_block = true;
        }
    }

    /// Whether the page of this memory offset holds cached code, so that stores must call
    /// [`Self::code_written`] instead of getting a direct write entry.
    pub fn holds_code(&self, offset: u64) -> bool {
        self.watch.code_granules(offset) != 0
    }
}
