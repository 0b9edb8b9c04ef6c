//! An access cut at the borders of blocks, clusters or grains.

use std::ops::Range;

/// One access's share of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which unit.
    pub unit: u64,
    /// Where in the unit it starts, in bytes.
    pub within: u64,
    /// Which bytes of the access it is.
    pub range: Range<usize>,
}

/// The pieces of an access of `length` bytes at `offset`, in order.
pub(crate) fn pieces(offset: u64, length: usize, unit_bytes: u64) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let start = offset + done as u64;
        let within = start % unit_bytes;
        let take = (unit_bytes - within).min((length - done) as u64) as usize;
        let piece = Piece { unit: start / unit_bytes, within, range: done..done + take };
        done += take;
        (take > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_cut_at_borders() {
        let cut: Vec<Piece> = pieces(510, 600, 512).collect();
        let expected = [(0, 510, 0..2), (1, 0, 2..514), (2, 0, 514..600)];
        assert_eq!(
            cut,
            expected.map(|(unit, within, range)| Piece { unit, within, range }),
            "three sectors are touched"
        );
        assert_eq!(pieces(7, 0, 512).count(), 0);
    }
}
