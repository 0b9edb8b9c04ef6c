//! Looks through the table of a VHDX: every block lies in the file, and none over another.

use super::{OFFSET, PARTLY_PRESENT, PRESENT, Vhdx};
use crate::check::Findings;
use crate::disk::{DiskError, not_in_file};
use crate::progress::Progress;

impl Vhdx {
    /// Looks through the table.
    pub fn check(&mut self, progress: Progress<'_>) -> Result<Findings, DiskError> {
        let mut findings = Findings::default();
        let mut places = Vec::new();
        for (block, entry) in self.blocks.iter().enumerate() {
            if block.is_multiple_of(4096) && !progress(block as u64, self.blocks.len() as u64) {
                findings.is_cancelled = true;
                return Ok(findings);
            }
            match entry & 7 {
                PRESENT => {
                    let place = entry & OFFSET;
                    if !self.is_in_file(block as u64, place) {
                        findings.add(not_in_file("block", block));
                    }
                    places.push(place);
                }
                PARTLY_PRESENT => {
                    findings.add(format!("block {block} needs a parent, and there is none"));
                }
                _ => {}
            }
        }
        findings.used_bytes = places.len() as u64 * self.header.block_bytes;
        places.sort_unstable();
        for pair in places.windows(2).filter(|pair| pair[1] - pair[0] < self.header.block_bytes) {
            findings.add(format!("two blocks lie over one another, at byte {}", pair[1]));
        }
        Ok(findings)
    }
}
