//! CRC-32C (Castagnoli), reflected polynomial 0x82F63B78. Source: RFC 3720, appendix B.4.

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut value, mut bit) = (n as u32, 0);
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ 0x82F6_3B78 } else { value >> 1 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
};

/// The checksum of `bytes`, in which the four at `field` count as zero.
pub fn crc32c(bytes: &[u8], field: usize) -> u32 {
    let byte = |(at, byte): (usize, &u8)| if (field..field + 4).contains(&at) { 0 } else { *byte };
    !bytes
        .iter()
        .enumerate()
        .map(byte)
        .fold(u32::MAX, |crc, byte| crc >> 8 ^ TABLE[((crc ^ u32::from(byte)) & 0xFF) as usize])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(super::crc32c(b"123456789", usize::MAX - 4), 0xE306_9283);
    }
}
