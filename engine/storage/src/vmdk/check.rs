//! Looks through a VMDK: the tables and grains of its sparse extents lie in their files, and none over another.

use super::sparse::{Grain, Sparse};
use super::{Content, Vmdk};
use crate::check::Findings;
use crate::disk::{DiskError, SECTOR, not_in_file};
use crate::fields::le32_table;
use crate::progress::Progress;
use crate::store::read_exact;

impl Vmdk {
    /// Looks through all extents. Whether flat ones lie in their files was seen when they were opened.
    pub fn check(&mut self, progress: Progress<'_>) -> Result<Findings, DiskError> {
        let mut findings = Findings::default();
        for part in &mut self.extents {
            let mut told =
                |done: u64| progress(part.start_bytes + done.min(part.length_bytes), self.length_bytes);
            match &mut part.content {
                Content::Zero => {}
                Content::Flat { .. } => findings.used_bytes += part.length_bytes,
                Content::Sparse(sparse) => {
                    if !sparse.check(&mut findings, &mut told)? {
                        findings.is_cancelled = true;
                        return Ok(findings);
                    }
                }
            }
        }
        Ok(findings)
    }
}

impl Sparse {
    /// Looks through the extent, and tells how many of its bytes are done; whether it was finished.
    fn check(
        &self,
        findings: &mut Findings,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, DiskError> {
        let table_bytes = self.entries_per_table * 4;
        let table_covers = self.entries_per_table * self.grain_bytes;
        let grains = self.sectors.div_ceil(self.grain_bytes / SECTOR);
        let mut tables: Vec<(u32, u64)> = self.directory.iter().copied().zip(0..).collect();
        tables.retain(|(sector, _)| *sector != 0);
        tables.sort_unstable();
        let absent = (self.directory.len() - tables.len()) as u64;
        let mut tables_end = 0;
        let mut places = Vec::new();
        for ((sector, table), done) in tables.into_iter().zip(absent..) {
            if !progress(done.saturating_mul(table_covers)) {
                return Ok(false);
            }
            let at = u64::from(sector) * SECTOR;
            // Each byte of the file is read once at most, however often a damaged directory names it.
            if at < tables_end {
                findings.add(format!("table {table} lies over another, at sector {sector}"));
                continue;
            }
            tables_end = at + table_bytes;
            if tables_end > self.store().length_bytes() {
                findings.add(not_in_file("table", table));
                continue;
            }
            let entries = le32_table(&read_exact(self.store(), at, table_bytes)?);
            for (entry, grain) in entries.into_iter().zip(table * self.entries_per_table..grains) {
                let stored = self.grain(grain, entry).and_then(|grain| match grain {
                    Grain::At(sector) => Ok(Some((sector, self.stored_bytes(sector)?))),
                    Grain::Absent | Grain::Zero => Ok(None),
                });
                match stored {
                    Ok(None) => {}
                    Ok(Some((sector, bytes))) => {
                        findings.used_bytes += bytes;
                        places.push(sector);
                    }
                    Err(DiskError::Damaged { what, .. }) => findings.add(what),
                    Err(error) => return Err(error),
                }
            }
        }
        // Compressed grains are of any length.
        if self.is_compressed {
            return Ok(true);
        }
        places.sort_unstable();
        for pair in places.windows(2).filter(|pair| u64::from(pair[1] - pair[0]) * SECTOR < self.grain_bytes)
        {
            findings.add(format!("two grains lie over one another, at sector {}", pair[1]));
        }
        Ok(true)
    }
}
