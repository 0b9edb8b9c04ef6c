//! What came out of order, until the gap before it is filled.

use super::sequence::Sequence;

/// Pieces kept; what does not fit comes again.
const MOST_PIECES: usize = 64;

/// Pieces of the stream beyond the next expected byte, sorted, without overlap.
#[derive(Clone, Debug, Default)]
pub struct Reassembly {
    pieces: Vec<(Sequence, Vec<u8>)>,
}

impl Reassembly {
    /// Keeps `data`, which begins at `at`, as far as it is new. The caller has cut it to the window,
    /// so all pieces together are no longer than that.
    pub fn keep(&mut self, mut at: Sequence, mut data: &[u8]) {
        let mut index = self.pieces.partition_point(|(start, _)| !start.is_after(at));
        if let Some((start, before)) = index.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            let covered = ((*start + before.len()) - at).min(data.len());
            data = &data[covered..];
            at = at + covered;
        }
        while !data.is_empty() && self.pieces.len() < MOST_PIECES {
            let next = self.pieces.get(index).map(|(start, piece)| (*start, piece.len()));
            let room = next.map_or(data.len(), |(start, _)| (start - at).min(data.len()));
            if room > 0 {
                // What follows the piece before becomes part of it: there are as many pieces as gaps.
                match index.checked_sub(1).map(|before| &mut self.pieces[before]) {
                    Some((start, before)) if *start + before.len() == at => {
                        before.extend_from_slice(&data[..room])
                    }
                    _ => {
                        self.pieces.insert(index, (at, data[..room].to_vec()));
                        index += 1;
                    }
                }
            }
            let Some((start, length)) = next else { return };
            let covered = ((start + length) - at).min(data.len());
            data = &data[covered..];
            at = at + covered;
            index += 1;
        }
    }

    /// Takes the piece that continues the stream at `next`; what lies before it is thrown away.
    pub fn take(&mut self, next: Sequence) -> Option<Vec<u8>> {
        while self.pieces.first().is_some_and(|(start, _)| !start.is_after(next)) {
            let (start, mut piece) = self.pieces.remove(0);
            let old = next - start;
            if old < piece.len() {
                piece.drain(..old);
                return Some(piece);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_order_gives_the_stream(
            segments in prop::collection::vec((0usize..200, 1usize..40), 1..80), base in any::<u32>(),
        ) {
            let stream: Vec<u8> = (0..240).map(|n| n as u8).collect();
            let (mut reassembly, mut known) = (Reassembly::default(), [false; 240]);
            let mut kept_all = true;
            for (start, length) in segments {
                kept_all &= reassembly.pieces.len() < MOST_PIECES / 2;
                reassembly.keep(Sequence(base) + start, &stream[start..start + length]);
                known[start..start + length].fill(true);
            }
            prop_assert!(reassembly.pieces.len() <= MOST_PIECES);
            let pieces = &reassembly.pieces;
            prop_assert!(pieces.windows(2).all(|two| !(two[0].0 + two[0].1.len()).is_after(two[1].0)));
            let mut got = Vec::new();
            while let Some(piece) = reassembly.take(Sequence(base) + got.len()) {
                got.extend_from_slice(&piece);
            }
            prop_assert_eq!(&got[..], &stream[..got.len()]);
            let contiguous = known.iter().take_while(|known| **known).count();
            prop_assert!(got.len() <= contiguous);
            if kept_all {
                prop_assert_eq!(got.len(), contiguous);
            }
        }
    }
}
