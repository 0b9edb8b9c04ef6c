//! What the monitor says of itself: VESA Enhanced EDID Standard, release A, revision 2 (EDID 1.4).

/// Bytes of an EDID without extensions.
pub const BYTES: usize = 128;
/// Blanking and synchronisation, in pixels and lines: CVT's reduced blanking, a little rounded.
const BLANK: (u32, u32) = (160, 40);
const FRONT: (u32, u32) = (48, 3);
const SYNC: (u32, u32) = (32, 5);
const REFRESH_HZ: u64 = 60;
/// Pixels a decimetre: 96 an inch.
const PIXELS_PER_DM: u32 = 378;

/// The EDID of a monitor of `width` by `height` pixels, each below 4096.
pub fn of((width, height): (u32, u32)) -> [u8; BYTES] {
    let mut edid = [0; BYTES];
    let mut put = |at: usize, bytes: &[u8]| edid[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x00]);
    // "VTR", product 1, of 2026, EDID 1.4.
    put(8, &(22_u16 << 10 | 20 << 5 | 18).to_be_bytes());
    put(10, &[1, 0, 0, 0, 0, 0, 0, 36, 1, 4]);
    // Digital, 8 bits a colour; centimetres; gamma 2.2; sRGB, the first timing is its own.
    put(20, &[0xA5, centimetres(width), centimetres(height), 120, 0x06]);
    put(25, &[0xEE, 0x91, 0xA3, 0x54, 0x4C, 0x99, 0x26, 0x0F, 0x50, 0x54]);
    // 640x480, 800x600 and 1024x768 at 60 Hz; no standard timings.
    put(35, &[0x21, 0x08, 0x00]);
    put(38, &[1; 16]);
    put(54, &timing(width, height));
    put(72, b"\0\0\0\xFC\0Vitrine\n     ");
    // Two descriptors that say nothing.
    put(90, &[0, 0, 0, 0x10]);
    put(108, &[0, 0, 0, 0x10]);
    let sum = edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    edid[BYTES - 1] = sum.wrapping_neg();
    edid
}

fn centimetres(pixels: u32) -> u8 {
    (pixels * 10 / PIXELS_PER_DM).min(255) as u8
}

/// A detailed timing, section 3.10.2.
fn timing(width: u32, height: u32) -> [u8; 18] {
    let total = u64::from(width + BLANK.0) * u64::from(height + BLANK.1);
    // In units of 10 kHz: large monitors refresh less often.
    let [clock0, clock1] = ((total * REFRESH_HZ / 10_000).min(0xFFFF) as u16).to_le_bytes();
    let low = |value: u32| value as u8;
    let highs = |a: u32, b: u32| (a >> 8 << 4 | b >> 8) as u8;
    let millimetres = |pixels: u32| pixels * 100 / PIXELS_PER_DM;
    let (across, down) = (millimetres(width), millimetres(height));
    [
        clock0,
        clock1,
        low(width),
        low(BLANK.0),
        highs(width, BLANK.0),
        low(height),
        low(BLANK.1),
        highs(height, BLANK.1),
        low(FRONT.0),
        low(SYNC.0),
        (FRONT.1 << 4 | SYNC.1) as u8,
        0,
        low(across),
        low(down),
        highs(across, down),
        0,
        0,
        0x1A, // separate synchronisation, the horizontal one positive
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sums_up_to_nothing_and_names_its_size_and_refresh() {
        for (width, height) in [(320, 320), (1024, 768), (1920, 1080), (4095, 4095)] {
            let edid = of((width, height));
            assert_eq!(edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            let twelve = |low: usize, high: usize| u32::from(edid[low]) | u32::from(edid[high] >> 4) << 8;
            assert_eq!((twelve(56, 58), twelve(59, 61)), (width, height));
            let clock = 10_000 * u64::from(u16::from_le_bytes([edid[54], edid[55]]));
            let total = u64::from(width + 160) * u64::from(height + 40);
            let expected = if width == 4095 { 37 } else { 59 };
            assert_eq!(clock / total, expected, "{width} {height}");
        }
        assert_eq!(&of((1024, 768))[77..84], b"Vitrine");
    }
}
