//! Samples as guests write them, as the mixer takes them.

use display::sound::Stereo;

/// Left and right of 16 bits each, little-endian, times `gain`. Missing bytes are silence.
pub fn stereo_i16(bytes: &[u8], gain: [f32; 2]) -> Stereo {
    [signed_16(bytes) * gain[0], signed_16(bytes.get(2..).unwrap_or_default()) * gain[1]]
}

/// One signed sample of 16 bits, little-endian.
pub fn signed_16(bytes: &[u8]) -> f32 {
    match bytes {
        [low, high, ..] => f32::from(i16::from_le_bytes([*low, *high])) / 32_768.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_channels_are_scaled_and_what_lacks_is_silence() {
        assert_eq!(stereo_i16(&[0, 0x80, 0, 0x40], [1.0, 0.5]), [-1.0, 0.25]);
        assert_eq!(stereo_i16(&[0, 0x40], [1.0; 2]), [0.5, 0.0]);
    }
}
