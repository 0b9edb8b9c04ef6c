//! IDENTIFY DEVICE and IDENTIFY PACKET DEVICE data, ATA/ATAPI-6 tables 26 and 30.

use super::ata::{AtaDisk, MULTIPLE_MAX};

const WORDS: usize = 256;
/// Multiword DMA modes 0 to 2.
const MULTIWORD: u16 = 0x07;
/// Ultra DMA modes 0 to 5.
const ULTRA: u16 = 0x3F;

/// Whether SET FEATURES 03h takes this mode: PIO, PIO 0 to 4, multiword 0 to 2, ultra 0 to 5.
pub fn is_transfer_mode(mode: u8) -> bool {
    matches!(mode, 0x00 | 0x01 | 0x08..=0x0C | 0x20..=0x22 | 0x40..=0x45)
}

/// A disk's 512 bytes.
pub fn disk(disk: &AtaDisk) -> [u8; 512] {
    let total = disk.total_sectors;
    let default_cylinders = (total / (16 * 63)).min(16383) as u16;
    let cylinders = disk.cylinders() as u16;
    let chs_sectors = u64::from(cylinders) * u64::from(disk.heads) * u64::from(disk.sectors);
    let lba28 = total.min(0x0FFF_FFFF) as u32;
    let mut words = [0; WORDS];
    words[0] = 0x0040; // fixed drive
    words[1] = default_cylinders;
    words[3] = 16;
    words[6] = 63;
    text(&mut words[10..20], &disk.serial);
    text(&mut words[23..27], "1.0");
    text(&mut words[27..47], "Vitrine hard disk");
    words[47] = 0x8000 | u16::from(MULTIPLE_MAX);
    words[48] = 1; // 32-bit accesses to the data port, as ATA-1 had it
    words[49] = 0x0F00; // IORDY, LBA, DMA
    words[50] = 0x4000;
    words[51] = 0x0200;
    words[52] = 0x0200;
    words[53] = 0x0007; // words 54 to 58, 64 to 70 and 88 are valid
    words[54] = cylinders;
    words[55] = disk.heads.into();
    words[56] = disk.sectors.into();
    double(&mut words[57..59], chs_sectors as u32);
    words[59] = if disk.multiple == 0 { 0 } else { 0x0100 | u16::from(disk.multiple) };
    double(&mut words[60..62], lba28);
    words[63] = MULTIWORD | selected(disk.transfer_mode, 0x20);
    words[64] = 0x0003; // PIO 3 and 4
    words[65..69].fill(120); // shortest cycle in ns
    words[80] = 0x0070; // ATA/ATAPI-4 to 6
    words[81] = 0x0019; // ATA/ATAPI-6 T13/1410D revision 3a
    words[82] = 0x0068; // look-ahead, write cache, power management
    words[83] = 0x7400; // FLUSH CACHE (EXT), 48-bit addresses
    words[84] = 0x4000;
    words[85] = 0x0008 | u16::from(disk.write_cache) << 5 | u16::from(disk.look_ahead) << 6;
    words[86] = 0x3400;
    words[87] = 0x4000;
    words[88] = ULTRA | selected(disk.transfer_mode, 0x40);
    words[93] = 0x6001; // an 80-conductor cable
    double(&mut words[100..102], total as u32);
    words[102] = (total >> 32) as u16;
    words[217] = 1; // does not rotate
    if disk.queues {
        serial_ata(&mut words);
    }
    seal(words)
}

/// What serial ATA adds: ATA8-ACS tables 29 and 32.
fn serial_ata(words: &mut [u16; WORDS]) {
    words[75] = 31; // 32 queued commands
    words[76] = 0x0102; // native queueing, first generation
    words[80] |= 0x0180; // ATA/ATAPI-7 and ATA8-ACS
    words[84] |= 0x0020; // general purpose logs
    words[87] |= 0x0020;
    words[93] = 0; // no cable
}

/// A CD drive's 512 bytes.
pub fn optical(serial: &str, transfer_mode: u8) -> [u8; 512] {
    let mut words = [0; WORDS];
    words[0] = 0x85C0; // packet device, CD-ROM, removable, DRQ within 50 µs, 12-byte packets
    text(&mut words[10..20], serial);
    text(&mut words[23..27], "1.0");
    text(&mut words[27..47], "Vitrine CD-ROM");
    words[48] = 1;
    words[49] = 0x0F00;
    words[50] = 0x4000;
    words[53] = 0x0006;
    words[63] = MULTIWORD | selected(transfer_mode, 0x20);
    words[64] = 0x0003;
    words[65..69].fill(120);
    words[71] = 30; // ns from a packet to the release of the bus
    words[72] = 30;
    words[80] = 0x0070;
    words[81] = 0x0019;
    words[82] = 0x0210; // DEVICE RESET, PACKET
    words[83] = 0x4000;
    words[84] = 0x4000;
    words[85] = 0x0210;
    words[87] = 0x4000;
    words[88] = ULTRA | selected(transfer_mode, 0x40);
    words[93] = 0x6001;
    seal(words)
}

/// The bit, in the high byte, of the selected mode of the family that starts at `family`.
fn selected(mode: u8, family: u8) -> u16 {
    if mode & 0xF8 == family { 0x0100 << (mode & 7) } else { 0 }
}

fn double(words: &mut [u16], value: u32) {
    words[0] = value as u16;
    words[1] = (value >> 16) as u16;
}

/// Text is padded with spaces, its bytes swapped within words.
fn text(words: &mut [u16], text: &str) {
    let mut bytes = text.bytes().chain(std::iter::repeat(b' '));
    for word in words {
        let mut next = || u16::from(bytes.next().expect("spaces without end"));
        *word = next() << 8 | next();
    }
}

/// The signature and checksum of word 255: all bytes add up to zero.
fn seal(mut words: [u16; WORDS]) -> [u8; 512] {
    words[255] = 0x00A5;
    let mut bytes = [0; 512];
    for (pair, word) in bytes.chunks_exact_mut(2).zip(words) {
        pair.copy_from_slice(&word.to_le_bytes());
    }
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[511] = sum.wrapping_neg();
    bytes
}
