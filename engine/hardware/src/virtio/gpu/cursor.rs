//! The cursor: a small picture over what the monitor shows.

use serde::{Deserialize, Serialize};

use super::resource::Resource;

/// Longest side of a cursor's picture, in pixels (§5.7.6.10: 64 x 64).
const SIDE_MAX: u32 = 64;

/// A cursor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    x: i32,
    y: i32,
    width: u32,
    height: u32,
    /// 0xAARRGGBB, colours multiplied by alpha, as DRM's are.
    pixels: Vec<u32>,
}

impl Cursor {
    /// Its upper left corner is there.
    pub fn moved(&mut self, x: i32, y: i32) {
        (self.x, self.y) = (x, y);
    }

    /// It looks like `picture` from now on; without one, or if that is too large, it is hidden.
    pub fn show(&mut self, picture: Option<&Resource>) {
        let fits = |picture: &&Resource| picture.width <= SIDE_MAX && picture.height <= SIDE_MAX;
        (self.width, self.height, self.pixels) = match picture.filter(fits) {
            Some(picture) => (picture.width, picture.height, picture.pixels.clone()),
            None => (0, 0, Vec::new()),
        };
    }

    /// Draws it over a picture of `width` by `height` pixels.
    pub fn draw(&self, colours: &mut [u32], width: u32, height: u32) {
        for (line, pixels) in (0_i64..).zip(self.pixels.chunks(self.width.max(1) as usize)) {
            let y = i64::from(self.y) + line;
            if !(0..i64::from(height)).contains(&y) {
                continue;
            }
            for (column, pixel) in (0_i64..).zip(pixels) {
                let x = i64::from(self.x) + column;
                if (0..i64::from(width)).contains(&x) {
                    let under = &mut colours[y as usize * width as usize + x as usize];
                    *under = over(*pixel, *under);
                }
            }
        }
    }

    /// Whether a saved one can be one.
    pub fn is_sound(&self) -> bool {
        let pixels = u64::from(self.width) * u64::from(self.height);
        self.width <= SIDE_MAX && self.height <= SIDE_MAX && self.pixels.len() as u64 == pixels
    }
}

/// A pixel over another.
fn over(top: u32, under: u32) -> u32 {
    let (top, under) = (top.to_le_bytes(), under.to_le_bytes());
    let through = 255 - u32::from(top[3]);
    u32::from_le_bytes(std::array::from_fn(|n| {
        (u32::from(top[n]) + (u32::from(under[n]) * through + 127) / 255).min(255) as u8
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lets_through_what_its_alpha_leaves() {
        assert_eq!(over(0xFF12_3456, 0xFFFF_FFFF), 0xFF12_3456);
        assert_eq!(over(0, 0xFF01_0203), 0xFF01_0203);
        assert_eq!(over(0x8040_0000, 0xFF00_00FF), 0xFF40_007F);
    }

    #[test]
    fn it_is_cut_at_the_edges() {
        let mut cursor = Cursor { width: 2, height: 2, pixels: vec![0xFF00_0001; 4], ..Cursor::default() };
        for (x, y, drawn) in [(-1, -1, 1), (1, 0, 2), (0, 0, 4), (2, 2, 0), (i32::MIN, i32::MAX, 0)] {
            let mut colours = vec![0; 4];
            cursor.moved(x, y);
            cursor.draw(&mut colours, 2, 2);
            assert_eq!(colours.iter().filter(|colour| **colour != 0).count(), drawn, "{x} {y}");
        }
    }
}
