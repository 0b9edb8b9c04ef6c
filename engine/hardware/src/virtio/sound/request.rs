//! Control requests and what the device tells of itself. Virtio 1.2 §5.14.6.

use super::{DIRECTIONS, Direction, status};

/// Jacks and channel maps: one for each stream.
pub const JACKS: u32 = DIRECTIONS.len() as u32;
pub const CHANNEL_MAPS: u32 = DIRECTIONS.len() as u32;

/// Request codes, §5.14.6.
const JACK_INFORMATION: u32 = 1;
const STREAM_INFORMATION: u32 = 0x100;
pub const SET_PARAMETERS: u32 = 0x101;
pub const PREPARE: u32 = 0x102;
pub const RELEASE: u32 = 0x103;
pub const START: u32 = 0x104;
pub const STOP: u32 = 0x105;
const CHANNEL_MAP_INFORMATION: u32 = 0x200;

/// The longest request there is: parameters.
pub const LONGEST_BYTES: usize = 24;
/// A request for information may name at most this many things.
const ASKED_MAX: u32 = 2;

/// Sample formats offered, §5.14.6.6.2: numbers of bits.
pub mod format {
    pub const S8: u8 = 3;
    pub const U8: u8 = 4;
    pub const S16: u8 = 5;
    pub const U16: u8 = 6;
    pub const S32: u8 = 17;
    pub const FLOAT: u8 = 19;
    pub const OFFERED: [u8; 6] = [S8, U8, S16, U16, S32, FLOAT];
}

/// Rates by their numbers, §5.14.6.6.2.
pub const RATES_HZ: [u32; 14] = [
    5_512, 8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000, 176_400, 192_000,
    384_000,
];

/// The dword at `at`, if it is there.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The answer to a request for information; `None` if it is another request.
pub fn information(bytes: &[u8]) -> Option<Vec<u8>> {
    let code = word(bytes, 0)?;
    let describe: fn(u32, Direction) -> Vec<u8> = match code {
        JACK_INFORMATION => jack,
        STREAM_INFORMATION => stream,
        CHANNEL_MAP_INFORMATION => channel_map,
        _ => return None,
    };
    let refused = Some(status::BAD_MESSAGE.to_le_bytes().to_vec());
    let (Some(first), Some(count), Some(size)) = (word(bytes, 4), word(bytes, 8), word(bytes, 12)) else {
        return refused;
    };
    let Some(end) = first.checked_add(count).filter(|end| *end <= ASKED_MAX) else { return refused };
    let mut answer = status::OK.to_le_bytes().to_vec();
    for number in first..end {
        let mut item = describe(number, DIRECTIONS[number as usize]);
        if (size as usize) < item.len() || size > 0x100 {
            return refused;
        }
        item.resize(size as usize, 0);
        answer.extend(item);
    }
    Some(answer)
}

/// §5.14.6.4.1: node, features, default configuration (line out or in, HDA 1.0a §7.3.3.31), capabilities, connected.
fn jack(number: u32, direction: Direction) -> Vec<u8> {
    let device: u32 = if direction == Direction::Output { 0 } else { 8 };
    let mut bytes = [number, 0, device << 20 | 0x10, 0].map(u32::to_le_bytes).concat();
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// §5.14.6.6.2: node, features, formats, rates, direction, channels.
fn stream(number: u32, direction: Direction) -> Vec<u8> {
    let formats = format::OFFERED.iter().fold(0_u64, |all, bit| all | 1 << bit);
    let rates = (1_u64 << RATES_HZ.len()) - 1;
    let mut bytes = [number, 0].map(u32::to_le_bytes).concat();
    bytes.extend([formats, rates].map(u64::to_le_bytes).concat());
    bytes.extend([direction as u8, 1, 2, 0, 0, 0, 0, 0]);
    bytes
}

/// §5.14.6.9.1: node, direction, channels, and their places: front left, front right.
fn channel_map(number: u32, direction: Direction) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend([direction as u8, 2, 3, 4]);
    bytes.resize(24, 0);
    bytes
}
