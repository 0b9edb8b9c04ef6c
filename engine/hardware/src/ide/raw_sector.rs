//! The 2352 bytes of a mode 1 CD sector around its 2048 of user data. ECMA-130 §14 and annex A.

use serde::{Deserialize, Serialize};

/// Bytes of a whole sector.
pub const RAW: usize = 2352;
/// Frames per second, and where block 0 lies: two seconds in.
const FRAMES: u32 = 75;
const LEAD_IN: u32 = 150;

/// Which fields of a sector READ CD asks for, as byte 9 of the command codes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    sync: bool,
    header: bool,
    user_data: bool,
    correction: bool,
}

impl Fields {
    /// From byte 9 of READ CD. (Mode 1 sectors have no sub-header.)
    pub fn new(code: u8) -> Fields {
        Fields {
            sync: code & 0x80 != 0,
            header: code & 0x20 != 0,
            user_data: code & 0x10 != 0,
            correction: code & 0x08 != 0,
        }
    }

    /// Whether plain blocks are asked for.
    pub fn is_user_data_only(self) -> bool {
        self == Fields { sync: false, header: false, user_data: true, correction: false }
    }

    /// Bytes per sector.
    pub fn bytes(self) -> u64 {
        self.ranges().map(|range| range.len() as u64).sum()
    }

    /// The fields asked for, one after the other.
    pub fn choose(self, sector: &[u8; RAW]) -> Vec<u8> {
        self.ranges().flat_map(|range| sector[range].iter().copied()).collect()
    }

    fn ranges(self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let fields = [
            (self.sync, 0..12),
            (self.header, 12..16),
            (self.user_data, 16..2064),
            (self.correction, 2064..RAW),
        ];
        fields.into_iter().filter(|(wanted, _)| *wanted).map(|(_, range)| range)
    }
}

/// Minute, second and frame of a block. Past minute 255, which no CD has, it stays there.
pub fn msf_of_block(block: u32) -> [u8; 3] {
    let frames = block.saturating_add(LEAD_IN);
    let (minute, second) = (frames / FRAMES / 60, frames / FRAMES % 60);
    [minute.min(255) as u8, second as u8, (frames % FRAMES) as u8]
}

/// The block at minute, second and frame, if it does not lie in the lead-in.
pub fn block_of_msf([minute, second, frame]: [u8; 3]) -> Option<u32> {
    let frames = (u32::from(minute) * 60 + u32::from(second)) * FRAMES + u32::from(frame);
    frames.checked_sub(LEAD_IN)
}

/// The whole sector of `block` with this user data.
pub fn mode_1(block: u32, user: &[u8; 2048]) -> [u8; RAW] {
    let mut sector = [0; RAW];
    sector[1..11].fill(0xFF);
    let bcd = |value: u8| value / 10 % 10 * 16 + value % 10;
    let msf = msf_of_block(block).map(bcd);
    sector[12..15].copy_from_slice(&msf);
    sector[15] = 1;
    sector[16..2064].copy_from_slice(user);
    let detection = crc(&sector[..2064]).to_le_bytes();
    sector[2064..2068].copy_from_slice(&detection);
    parity(&mut sector, 86, 24, 2, 86, 2076); // P
    parity(&mut sector, 52, 43, 86, 88, 2248); // Q, over P as well
    sector
}

/// The error detection code: CRC-32 with the polynomial (x¹⁶+x¹⁵+x²+1)(x¹⁶+x²+x+1), low bit first.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, byte| crc >> 8 ^ CRC[usize::from(crc as u8 ^ byte)])
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 2048 {
        let (byte, bit) = (n / 8, n % 8);
        let crc: u32 = if bit == 0 { byte as u32 } else { table[byte] };
        table[byte] = crc >> 1 ^ (0xD801_8001 & (crc & 1).wrapping_neg());
        n += 1;
    }
    table
};

/// One of the two Reed-Solomon codes over the header and all that follows: `codes` code words of `length` bytes.
fn parity(sector: &mut [u8; RAW], codes: usize, length: usize, across: usize, step: usize, to: usize) {
    let size = codes * length;
    for code in 0..codes {
        let mut at = code / 2 * across + code % 2;
        let (mut a, mut b) = (0u8, 0u8);
        for _ in 0..length {
            let byte = sector[12 + at];
            at += step;
            if at >= size {
                at -= size;
            }
            a = times_two(a ^ byte);
            b ^= byte;
        }
        a = over_three(times_two(a) ^ b);
        sector[to + code] = a;
        sector[to + codes + code] = a ^ b;
    }
}

/// Multiplies by α in GF(2⁸) with x⁸+x⁴+x³+x²+1.
const fn times_two(value: u8) -> u8 {
    value << 1 ^ (0x1D & (value >> 7).wrapping_neg())
}

/// Divides by 1+α: the inverse of v ↦ v ⊕ 2v.
fn over_three(value: u8) -> u8 {
    OVER_THREE[usize::from(value)]
}

const OVER_THREE: [u8; 256] = {
    let mut table = [0; 256];
    let mut value = 0;
    while value < 256 {
        table[(value as u8 ^ times_two(value as u8)) as usize] = value as u8;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_count_from_two_seconds() {
        assert_eq!(msf_of_block(0), [0, 2, 0]);
        assert_eq!(msf_of_block(75 * 60 - 150), [1, 0, 0]);
        assert_eq!(block_of_msf([0, 2, 16]), Some(16));
        assert_eq!(block_of_msf([0, 1, 74]), None);
        assert_eq!(msf_of_block(u32::MAX)[0], 255);
    }

    #[test]
    fn a_sector_has_its_fields_in_place() {
        let sector = mode_1(16, &[0xAB; 2048]);
        assert_eq!(sector[..16], [0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, 0x16, 1]);
        assert_eq!(sector[16..2064], [0xAB; 2048]);
        assert_eq!(sector[2068..2076], [0; 8]);
    }

    #[test]
    fn the_detection_code_of_a_sector_over_itself_is_zero() {
        let sector = mode_1(1234, &[0x5C; 2048]);
        assert_eq!(crc(&sector[..2068]), 0);
    }

    #[test]
    fn every_code_word_adds_up_to_zero() {
        // ECMA-130 A.5: the sum of a code word's bytes, and their sum weighted with powers of α, vanish.
        let mut user = [0; 2048];
        user.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 7 + n / 256) as u8);
        let sector = mode_1(99, &user);
        for (codes, length, across, step, to) in [(86, 24, 2, 86, 2076), (52, 43, 86, 88, 2248)] {
            for code in 0..codes {
                let start = code / 2 * across + code % 2;
                let data = (0..length).map(|n| sector[12 + (start + n * step) % (codes * length)]);
                let word = data.chain([sector[to + code], sector[to + codes + code]]);
                let (sum, weighted) = word.fold((0, 0), |(s, w), byte| (s ^ byte, times_two(w) ^ byte));
                assert_eq!((sum, weighted), (0, 0), "code word {code} of {codes}");
            }
        }
    }

    #[test]
    fn fields_are_chosen_by_the_code() {
        let sector = mode_1(0, &[1; 2048]);
        assert_eq!(Fields::new(0xF8).bytes(), 2352);
        assert_eq!(Fields::new(0xF8).choose(&sector), sector);
        assert!(Fields::new(0x10).is_user_data_only());
        assert_eq!(Fields::new(0x20).choose(&sector), [0, 2, 0, 1]);
        assert_eq!(Fields::new(0).bytes(), 0);
    }
}
