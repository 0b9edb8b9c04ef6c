//! CMOS memory as SeaBIOS and DOS expect it: memory sizes, floppy drives, boot order, CPUs.
//!
//! Indexes as in the IBM AT and in SeaBIOS hw/rtc.h. Time, century and status registers are the
//! clock chip's own.

use crate::layout::address;

/// A floppy drive's type, by its number in CMOS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FloppyType {
    /// No drive.
    #[default]
    None = 0,
    /// 5¼", 360 KB.
    Kb360 = 1,
    /// 5¼", 1.2 MB.
    Mb12 = 2,
    /// 3½", 720 KB.
    Kb720 = 3,
    /// 3½", 1.44 MB.
    Mb144 = 4,
    /// 3½", 2.88 MB.
    Mb288 = 5,
}

/// A class of devices in the boot order, by its number in CMOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootClass {
    /// Floppy drives.
    Floppy = 1,
    /// Hard disks.
    HardDisk = 2,
    /// CD drives.
    Cd = 3,
    /// Network cards.
    Network = 4,
}

/// The bytes to set, as (index, value). At most three of `boot` count.
pub fn cmos_contents(
    ram_bytes: u64,
    cpus: u8,
    floppies: [FloppyType; 2],
    boot: &[BootClass],
) -> Vec<(u8, u8)> {
    let low = ram_bytes.min(address::LOW_RAM_END);
    let high = ram_bytes - low;
    let extended_kib = (low.saturating_sub(1 << 20) >> 10).min(0xFFFF) as u16;
    let above_16_mib = (low.saturating_sub(16 << 20) >> 16).min(0xFFFF) as u16;
    let high_blocks = (high >> 16).min(0xFF_FFFF) as u32;
    let drives = floppies.iter().filter(|floppy| **floppy != FloppyType::None).count() as u8;
    // Equipment: coprocessor, PS/2 mouse, and the drives.
    let equipment = 0x06 | if drives > 0 { 0x01 | (drives - 1) << 6 } else { 0 };
    let class = |n: usize| boot.get(n).map_or(0, |class| *class as u8);
    let (extended, above, high) =
        (extended_kib.to_le_bytes(), above_16_mib.to_le_bytes(), high_blocks.to_le_bytes());
    let mut bytes = vec![
        (0x10, (floppies[0] as u8) << 4 | floppies[1] as u8),
        (0x14, equipment),
        (0x15, 0x80), // 640 KiB of base memory
        (0x16, 0x02),
        (0x17, extended[0]),
        (0x18, extended[1]),
        (0x30, extended[0]),
        (0x31, extended[1]),
        (0x34, above[0]),
        (0x35, above[1]),
        // Bit 0: do not insist on a boot signature on floppies.
        (0x38, class(2) << 4 | 1),
        (0x3D, class(1) << 4 | class(0)),
        (0x5B, high[0]),
        (0x5C, high[1]),
        (0x5D, high[2]),
        (0x5F, cpus.saturating_sub(1)),
    ];
    // The AT's checksum covers 0x10 to 0x2D; what is not listed is zero.
    let covered = bytes.iter().filter(|(index, _)| (0x10..=0x2D).contains(index));
    let sum: u16 = covered.map(|(_, value)| u16::from(*value)).sum();
    bytes.push((0x2E, (sum >> 8) as u8));
    bytes.push((0x2F, sum as u8));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_large_machine_fills_all_three_memory_fields() {
        let bytes: BTreeMap<u8, u8> = cmos_contents(
            4 << 30,
            4,
            [FloppyType::Mb144, FloppyType::None],
            &[BootClass::Cd, BootClass::HardDisk, BootClass::Floppy],
        )
        .into_iter()
        .collect();
        assert_eq!(bytes[&0x10], 0x40);
        assert_eq!(bytes[&0x14], 0x07);
        assert_eq!((bytes[&0x30], bytes[&0x31]), (0xFF, 0xFF));
        // 3 GiB below: (3072 - 16) MiB in 64 KiB units = 0xBF00; 1 GiB above: 0x4000.
        assert_eq!((bytes[&0x34], bytes[&0x35]), (0x00, 0xBF));
        assert_eq!((bytes[&0x5B], bytes[&0x5C], bytes[&0x5D]), (0x00, 0x40, 0x00));
        assert_eq!((bytes[&0x3D], bytes[&0x38]), (0x23, 0x11));
        assert_eq!(bytes[&0x5F], 3);
        let sum: u32 = (0x10..=0x2D).filter_map(|index| bytes.get(&index)).map(|b| u32::from(*b)).sum();
        assert_eq!(u32::from(bytes[&0x2E]) << 8 | u32::from(bytes[&0x2F]), sum);
    }

    #[test]
    fn a_small_machine_has_no_extended_memory_above_16_mib() {
        let bytes: BTreeMap<u8, u8> =
            cmos_contents(8 << 20, 1, [FloppyType::default(); 2], &[]).into_iter().collect();
        assert_eq!((bytes[&0x17], bytes[&0x18]), (0x00, 0x1C));
        assert_eq!((bytes[&0x34], bytes[&0x35], bytes[&0x14]), (0, 0, 0x06));
    }
}
