//! The line graphics of code page 437, 0xB3 to 0xDA, drawn for a cell of any height.
//!
//! Each is a crossing of up to four arms, none, single or double. Drawing them keeps double lines double
//! (Spleen's table gives them the glyphs of single ones) and makes all of them meet at every height.

use std::ops::RangeInclusive;

/// Lines of an arm: up, down, left, right.
type Arms = [u8; 4];

const FIRST_CODE: usize = 0xB3;

/// The arms of each code from 0xB3 on.
const ARMS: [Arms; 40] = [
    [1, 1, 0, 0], // │
    [1, 1, 1, 0], // ┤
    [1, 1, 2, 0], // ╡
    [2, 2, 1, 0], // ╢
    [0, 2, 1, 0], // ╖
    [0, 1, 2, 0], // ╕
    [2, 2, 2, 0], // ╣
    [2, 2, 0, 0], // ║
    [0, 2, 2, 0], // ╗
    [2, 0, 2, 0], // ╝
    [2, 0, 1, 0], // ╜
    [1, 0, 2, 0], // ╛
    [0, 1, 1, 0], // ┐
    [1, 0, 0, 1], // └
    [1, 0, 1, 1], // ┴
    [0, 1, 1, 1], // ┬
    [1, 1, 0, 1], // ├
    [0, 0, 1, 1], // ─
    [1, 1, 1, 1], // ┼
    [1, 1, 0, 2], // ╞
    [2, 2, 0, 1], // ╟
    [2, 0, 0, 2], // ╚
    [0, 2, 0, 2], // ╔
    [2, 0, 2, 2], // ╩
    [0, 2, 2, 2], // ╦
    [2, 2, 0, 2], // ╠
    [0, 0, 2, 2], // ═
    [2, 2, 2, 2], // ╬
    [1, 0, 2, 2], // ╧
    [2, 0, 1, 1], // ╨
    [0, 1, 2, 2], // ╤
    [0, 2, 1, 1], // ╥
    [2, 0, 0, 1], // ╙
    [1, 0, 0, 2], // ╘
    [0, 1, 0, 2], // ╒
    [0, 2, 0, 1], // ╓
    [2, 2, 1, 1], // ╫
    [1, 1, 2, 2], // ╪
    [1, 0, 1, 0], // ┘
    [0, 1, 0, 1], // ┌
];

/// Lines along one axis, at their place across it: a single line, and a double one with its gap.
struct Track {
    /// Last place of the cell.
    end: usize,
    single: RangeInclusive<usize>,
    double: RangeInclusive<usize>,
    gap: RangeInclusive<usize>,
}

/// The glyph of `code` in a cell of `height` lines; `None` when it is not line graphics.
pub fn line_graphics(code: usize, height: usize) -> Option<[u8; 32]> {
    let [up, down, left, right] = *ARMS.get(code.checked_sub(FIRST_CODE)?)?;
    let middle = (height - 1) / 2;
    let columns = Track { end: 7, single: 3..=4, double: 1..=6, gap: 3..=4 };
    let rows = Track {
        end: height - 1,
        single: middle..=middle,
        double: middle - 1..=middle + 1,
        gap: middle..=middle,
    };
    let mut cell = [[false; 8]; 32];
    // Roads first, then the gaps between their two lines, then single lines over them.
    for (place, colour) in [(Place::Road, true), (Place::Gap, false), (Place::Single, true)] {
        for (near, far, along, across, upright) in
            [(up, down, &rows, &columns, true), (left, right, &columns, &rows, false)]
        {
            let crossing = if upright { (left, right) } else { (up, down) };
            for (from, to) in place.runs(near, far, crossing, along) {
                for at in from..=to {
                    for beside in place.width(across) {
                        let (row, column) = if upright { (at, beside) } else { (beside, at) };
                        cell[row][column] = colour;
                    }
                }
            }
        }
    }
    Some(cell.map(|row| row.iter().fold(0, |bits, &dot| bits << 1 | u8::from(dot))))
}

/// What is being drawn of an arm.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Road,
    Gap,
    Single,
}

impl Place {
    fn width(self, across: &Track) -> RangeInclusive<usize> {
        match self {
            Place::Road => across.double.clone(),
            Place::Gap => across.gap.clone(),
            Place::Single => across.single.clone(),
        }
    }

    /// From where to where the two arms of one axis run, given what crosses them.
    fn runs(self, near: u8, far: u8, crossing: (u8, u8), along: &Track) -> Vec<(usize, usize)> {
        let lines = if self == Place::Single { 1 } else { 2 };
        let doubles = u8::from(crossing.0 == 2) + u8::from(crossing.1 == 2);
        let (near_end, far_start) = self.inner_ends(doubles, along);
        match (near == lines, far == lines) {
            (true, true) => vec![(0, along.end)],
            (true, false) => vec![(0, near_end)],
            (false, true) => vec![(far_start, along.end)],
            _ => Vec::new(),
        }
    }

    /// Where an arm that comes alone ends: the near arm's last place, the far arm's first.
    fn inner_ends(self, crossing_doubles: u8, along: &Track) -> (usize, usize) {
        let (single, double, gap) = (&along.single, &along.double, &along.gap);
        match (self, crossing_doubles) {
            // A single line stops at the wall of a road that goes through, and closes one that ends here.
            (Place::Single, 2) => (gap.start() - 1, gap.end() + 1),
            (Place::Single, 1) | (Place::Road, 1..) => (*double.end(), *double.start()),
            (Place::Single | Place::Road, _) => (*single.end(), *single.start()),
            (Place::Gap, 0) => (single.start() - 1, single.end() + 1),
            (Place::Gap, _) => (*gap.end(), *gap.start()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(code: usize) -> Vec<String> {
        let dots = |bits: u8| (0..8).map(|x| if bits & 0x80 >> x != 0 { '#' } else { '.' }).collect();
        line_graphics(code, 8).unwrap()[..8].iter().map(|&bits| dots(bits)).collect()
    }

    #[test]
    fn crossings_look_as_they_are_called() {
        // ╔ ╧ ╢ ╒ ╬ ╖
        let expected: [(usize, [&str; 8]); 6] = [
            (
                0xC9,
                [
                    "........", "........", ".#######", ".##.....", ".##..###", ".##..##.", ".##..##.",
                    ".##..##.",
                ],
            ),
            (
                0xCF,
                [
                    "...##...", "...##...", "########", "........", "########", "........", "........",
                    "........",
                ],
            ),
            (
                0xB6,
                [
                    ".##..##.", ".##..##.", ".##..##.", "###..##.", ".##..##.", ".##..##.", ".##..##.",
                    ".##..##.",
                ],
            ),
            (
                0xD5,
                [
                    "........", "........", "...#####", "...##...", "...#####", "...##...", "...##...",
                    "...##...",
                ],
            ),
            (
                0xCE,
                [
                    ".##..##.", ".##..##.", "###..###", "........", "###..###", ".##..##.", ".##..##.",
                    ".##..##.",
                ],
            ),
            (
                0xB7,
                [
                    "........", "........", "........", "#######.", ".##..##.", ".##..##.", ".##..##.",
                    ".##..##.",
                ],
            ),
        ];
        for (code, lines) in expected {
            assert_eq!(drawn(code), lines, "{code:#x}");
        }
    }

    #[test]
    fn arms_reach_the_edges_and_meet_the_same_arms_there() {
        for height in [8, 14, 16, 32] {
            for (code, [up, down, left, right]) in (FIRST_CODE..).zip(ARMS) {
                let glyph = line_graphics(code, height).unwrap();
                let upright = [0x00, 0x18, 0x66];
                assert_eq!(glyph[0], upright[usize::from(up)], "{code:#x}");
                assert_eq!(glyph[height - 1], upright[usize::from(down)], "{code:#x}");
                let side =
                    |bit: u8| -> Vec<usize> { (0..height).filter(|&row| glyph[row] & bit != 0).collect() };
                let middle = (height - 1) / 2;
                let level = [vec![], vec![middle], vec![middle - 1, middle + 1]];
                assert_eq!(
                    (side(0x80), side(0x01)),
                    (level[usize::from(left)].clone(), level[usize::from(right)].clone())
                );
            }
        }
        assert_eq!((line_graphics(0xB2, 16), line_graphics(0xDB, 16)), (None, None));
    }
}
