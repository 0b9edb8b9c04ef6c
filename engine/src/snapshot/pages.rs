//! Memory in a saved state: pages that are not zeros, 256 at a time, compressed as one LZ4 block.
//!
//! Content of a section: number of pages (4 bytes), their places in memory (8 each), the block.

use hardware::memory::PAGE;

/// Pages of one section.
const PAGES_MAX: usize = 256;
const PAGE_BYTES: usize = PAGE as usize;

/// Packs pages into sections for `give`; pages of zeros are left out.
pub fn pack<'a, E>(
    pages: impl Iterator<Item = (u64, &'a [u8])>,
    mut give: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut pages = pages.filter(|(_, page)| *page != [0; PAGE_BYTES]);
    let (mut offsets, mut raw) = (Vec::new(), Vec::with_capacity(PAGES_MAX * PAGE_BYTES));
    loop {
        offsets.clear();
        raw.clear();
        for (offset, page) in pages.by_ref().take(PAGES_MAX) {
            offsets.push(offset);
            raw.extend(page);
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let mut content = (offsets.len() as u32).to_le_bytes().to_vec();
        content.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        content.extend(lz4_flex::block::compress(&raw));
        give(&content)?;
    }
}

/// Unpacks a section for a memory of `memory_bytes`; says what is wrong with it.
pub fn unpack(
    content: &[u8],
    memory_bytes: u64,
    mut page: impl FnMut(u64, &[u8]),
) -> Result<(), &'static str> {
    const SHORT: &str = "a section of memory is too short";
    let (count, rest) = content.split_first_chunk::<4>().ok_or(SHORT)?;
    let count = u32::from_le_bytes(*count) as usize;
    if count == 0 || count > PAGES_MAX {
        return Err("a section of memory has an impossible number of pages");
    }
    let (offsets, block) = rest.split_at_checked(count * 8).ok_or(SHORT)?;
    let offsets = offsets.as_chunks::<8>().0.iter().map(|offset| u64::from_le_bytes(*offset));
    if offsets.clone().any(|at| !at.is_multiple_of(PAGE) || at >= memory_bytes) {
        return Err("a page lies outside the machine's memory");
    }
    let mut raw = vec![0; count * PAGE_BYTES];
    match lz4_flex::block::decompress_into(block, &mut raw) {
        Ok(length) if length == raw.len() => {}
        _ => return Err("pages of memory cannot be decompressed"),
    }
    offsets.zip(raw.chunks_exact(PAGE_BYTES)).for_each(|(offset, bytes)| page(offset, bytes));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_and_zeros_are_left_out() {
        let pages: Vec<Vec<u8>> =
            (0..600u32).map(|n| vec![if n % 3 == 0 { 0 } else { n as u8 | 1 }; PAGE_BYTES]).collect();
        let all = pages.iter().enumerate().map(|(n, page)| (n as u64 * PAGE, page.as_slice()));
        let mut sections = Vec::new();
        pack::<()>(all, |section| {
            sections.push(section.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(sections.len(), 2);
        let mut seen = 0;
        for section in &sections {
            unpack(section, 600 * PAGE, |offset, bytes| {
                assert_eq!(bytes, pages[(offset / PAGE) as usize]);
                seen += 1;
            })
            .unwrap();
            assert!(unpack(section, 100 * PAGE, |_, _| {}).is_err(), "outside a smaller memory");
        }
        assert_eq!(seen, 400);
    }

    #[test]
    fn any_bytes_are_refused_or_harmless() {
        let mut section = Vec::new();
        pack::<()>([(0, &[5; PAGE_BYTES][..])].into_iter(), |one| {
            section = one.to_vec();
            Ok(())
        })
        .unwrap();
        let mut random = 1u64;
        for _ in 0..20_000 {
            let mut damaged = section.clone();
            for _ in 0..3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (random >> 33) as usize % damaged.len();
                damaged[at] = (random >> 20) as u8;
            }
            let _ = unpack(&damaged, 1 << 20, |offset, page| {
                assert!(offset < 1 << 20 && page.len() == PAGE_BYTES)
            });
        }
    }
}
