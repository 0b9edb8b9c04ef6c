//! Entries of the second-level tables. Source: `qcow2.txt`, "Cluster mapping".

/// The entry's cluster has a refcount of exactly one: it may be written in place.
pub const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// Version 3: the cluster reads as zeros.
pub const ZERO: u64 = 1;
/// Bits 9 to 55: where the cluster lies in the file.
pub const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;

/// What a second-level entry says of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Not in this image: the backing file's, or zeros without one.
    Absent,
    /// Zeros, perhaps with a cluster kept for it.
    Zero {
        /// The kept cluster.
        host: Option<u64>,
        /// It is nobody else's.
        exclusive: bool,
    },
    /// At this offset in the file.
    Data {
        /// Where.
        host: u64,
        /// It is nobody else's.
        exclusive: bool,
    },
    /// Compressed, at this offset; it ends within `length_bytes`.
    Compressed {
        /// Where it starts; any byte.
        host: u64,
        /// How much to read at most.
        length_bytes: u64,
    },
}

impl Mapping {
    /// Decodes an entry.
    pub fn of(entry: u64, version: u32, cluster_bits: u32) -> Mapping {
        if entry & COMPRESSED != 0 {
            // Bits 0..x are the offset, x..61 the number of further sectors; x = 62 - (cluster_bits - 8).
            let x = 62 - (cluster_bits - 8);
            let host = entry & ((1 << x) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> x;
            return Mapping::Compressed { host, length_bytes: (sectors + 1) * 512 - host % 512 };
        }
        let host = entry & OFFSET;
        let exclusive = entry & COPIED != 0;
        match (host, version >= 3 && entry & ZERO != 0) {
            (0, true) => Mapping::Zero { host: None, exclusive: false },
            (_, true) => Mapping::Zero { host: Some(host), exclusive },
            (0, false) => Mapping::Absent,
            _ => Mapping::Data { host, exclusive },
        }
    }

    /// The clusters it refers to, by number.
    pub fn clusters(self, cluster_bits: u32) -> std::ops::Range<u64> {
        match self {
            Mapping::Absent | Mapping::Zero { host: None, .. } => 0..0,
            Mapping::Zero { host: Some(host), .. } | Mapping::Data { host, .. } => {
                (host >> cluster_bits)..(host >> cluster_bits) + 1
            }
            Mapping::Compressed { host, length_bytes } => {
                (host >> cluster_bits)..((host + length_bytes - 1) >> cluster_bits) + 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_as_the_specification_has_them() {
        let of = |entry| Mapping::of(entry, 3, 16);
        assert_eq!(of(0), Mapping::Absent);
        assert_eq!(of(1), Mapping::Zero { host: None, exclusive: false });
        assert_eq!(of(COPIED | 0x5_0000), Mapping::Data { host: 0x5_0000, exclusive: true });
        assert_eq!(of(COPIED | 0x5_0001), Mapping::Zero { host: Some(0x5_0000), exclusive: true });
        assert_eq!(Mapping::of(0x5_0001, 2, 16), Mapping::Data { host: 0x5_0000, exclusive: false });
        // 64 KiB clusters: the offset has 54 bits, the sectors 8.
        let entry = COMPRESSED | 3 << 54 | 0x1_FE10;
        assert_eq!(of(entry), Mapping::Compressed { host: 0x1_FE10, length_bytes: 4 * 512 - 0x10 });
        assert_eq!(of(entry).clusters(16), 1..3);
    }
}
