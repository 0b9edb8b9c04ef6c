//! Numbers in headers. The caller has checked that they are inside.

macro_rules! fields {
    ($($read:ident $write:ident $type:ident $from:ident $to:ident)*) => {$(
        pub(crate) fn $read(bytes: &[u8], at: usize) -> $type {
            $type::$from(*bytes[at..].first_chunk().expect("inside the header"))
        }

        pub(crate) fn $write(bytes: &mut [u8], at: usize, value: $type) {
            let value = value.$to();
            bytes[at..at + value.len()].copy_from_slice(&value);
        }
    )*};
}

fields! {
    be16 put_be16 u16 from_be_bytes to_be_bytes
    be32 put_be32 u32 from_be_bytes to_be_bytes
    be64 put_be64 u64 from_be_bytes to_be_bytes
    le16 put_le16 u16 from_le_bytes to_le_bytes
    le32 put_le32 u32 from_le_bytes to_le_bytes
    le64 put_le64 u64 from_le_bytes to_le_bytes
}

/// A big-endian table of 64-bit numbers.
pub(crate) fn be64_table(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect()
}

/// A big-endian table of 32-bit numbers.
pub(crate) fn be32_table(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|entry| be32(entry, 0)).collect()
}

/// A little-endian table of 32-bit numbers.
pub(crate) fn le32_table(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|entry| le32(entry, 0)).collect()
}
