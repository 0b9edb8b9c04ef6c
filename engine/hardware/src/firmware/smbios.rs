//! SMBIOS tables: what the machine calls itself, its CPUs and its memory.
//!
//! SMBIOS 2.8 (DMTF DSP0134). Structures of types 0, 1, 3, 4, 16, 17, 19, 32 and 127, and the 32-bit
//! entry point, whose table address and checksums SeaBIOS fills in.

use crate::firmware::fw_cfg::FwCfg;
use crate::layout::address;

/// What the tables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The machine's name, as its owner gave it: the serial number's place.
    pub name: String,
    /// The machine's id.
    pub uuid: [u8; 16],
    /// CPUs.
    pub cpus: u8,
    /// RAM in bytes.
    pub ram_bytes: u64,
}

/// The entry point and the structures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The entry point, without address and checksums.
    pub anchor: Vec<u8>,
    /// The structures.
    pub structures: Vec<u8>,
}

/// Handles tie structures to each other; any distinct numbers do.
mod handle {
    pub const BIOS: u16 = 0x0000;
    pub const SYSTEM: u16 = 0x0100;
    pub const CHASSIS: u16 = 0x0300;
    pub const PROCESSOR: u16 = 0x0400;
    pub const MEMORY_ARRAY: u16 = 0x1000;
    pub const MEMORY_DEVICE: u16 = 0x1100;
    pub const MAPPED: u16 = 0x1300;
    pub const BOOT: u16 = 0x2000;
    pub const END: u16 = 0x7F00;
    pub const NONE: u16 = 0xFFFE;
}

const MAKER: &str = "Vitrine";
const PRODUCT: &str = "Virtual PC (i440FX + PIIX)";
/// The largest memory device we describe.
const DIMM_BYTES: u64 = 16 << 30;

/// One structure in the making: formatted bytes and strings.
struct Structure {
    bytes: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Structure {
        let mut bytes = vec![kind, 0];
        bytes.extend_from_slice(&handle.to_le_bytes());
        Structure { bytes, strings: Vec::new(), count: 0 }
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn word(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn dword(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn qword(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A string's number; the string follows the formatted bytes (§6.1.3). Zeros and overlong text go.
    fn string(mut self, text: &str) -> Self {
        let text: Vec<u8> = text.bytes().filter(|byte| (0x20..0x7F).contains(byte)).take(64).collect();
        if text.is_empty() {
            return self.bytes(&[0]);
        }
        self.count += 1;
        self.strings.extend_from_slice(&text);
        self.strings.push(0);
        let number = self.count;
        self.bytes(&[number])
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[1] = self.bytes.len() as u8;
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        self.bytes.extend_from_slice(&self.strings);
        self.bytes.push(0);
        self.bytes
    }
}

impl Tables {
    /// The tables of a machine.
    pub fn new(identity: &Identity) -> Tables {
        let mut all = vec![bios(), system(identity), chassis()];
        all.extend((0..identity.cpus).map(processor));
        let dimms = identity.ram_bytes.div_ceil(DIMM_BYTES).clamp(1, 255) as u16;
        all.push(memory_array(identity.ram_bytes, dimms));
        all.extend((0..dimms).map(|n| memory_device(identity.ram_bytes, n)));
        all.extend(mapped_addresses(identity.ram_bytes));
        all.push(Structure::new(32, handle::BOOT).bytes(&[0; 6]).bytes(&[0]).finish());
        all.push(Structure::new(127, handle::END).finish());
        let largest = all.iter().map(Vec::len).max().unwrap_or(0);
        let structures = all.concat();
        Tables { anchor: anchor(structures.len(), largest, all.len()), structures }
    }

    /// Gives the files to the firmware.
    pub fn give_to(&self, firmware: &mut FwCfg) {
        firmware.add_file("etc/smbios/smbios-anchor", self.anchor.clone());
        firmware.add_file("etc/smbios/smbios-tables", self.structures.clone());
    }

    /// The finished entry point for structures at `structures_at`, as firmware would write it.
    pub fn place(&self, structures_at: u32) -> Vec<u8> {
        let mut anchor = self.anchor.clone();
        anchor[0x18..0x1C].copy_from_slice(&structures_at.to_le_bytes());
        // §5.2.1: each checksum makes its part sum to zero; the first covers the second.
        for (part, checksum) in [(0x10..0x1F, 0x15), (0..0x1F, 4)] {
            let sum = anchor[part].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            anchor[checksum] = anchor[checksum].wrapping_sub(sum);
        }
        anchor
    }
}

/// §5.2.1.
fn anchor(length: usize, largest: usize, count: usize) -> Vec<u8> {
    let mut anchor = b"_SM_".to_vec();
    anchor.extend_from_slice(&[0, 0x1F, 2, 8]);
    anchor.extend_from_slice(&(largest as u16).to_le_bytes());
    anchor.extend_from_slice(&[0; 6]); // entry point revision, formatted area
    anchor.extend_from_slice(b"_DMI_\0");
    anchor.extend_from_slice(&(length as u16).to_le_bytes());
    anchor.extend_from_slice(&0u32.to_le_bytes());
    anchor.extend_from_slice(&(count as u16).to_le_bytes());
    anchor.push(0x28);
    anchor
}

/// §7.1.
fn bios() -> Vec<u8> {
    Structure::new(0, handle::BIOS)
        .string("SeaBIOS")
        .string(concat!("Vitrine ", env!("CARGO_PKG_VERSION")))
        .word(0xE800)
        .string("04/01/2014")
        .bytes(&[3]) // (3 + 1) × 64 KiB
        .qword(0x08) // characteristics not given
        .bytes(&[0x00, 0x14, 0, 0, 0xFF, 0xFF]) // virtual machine; distribution enabled
        .finish()
}

/// §7.2.
fn system(identity: &Identity) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h, rest @ ..] = identity.uuid;
    Structure::new(1, handle::SYSTEM)
        .string(MAKER)
        .string(PRODUCT)
        .string(env!("CARGO_PKG_VERSION"))
        .string(&identity.name)
        .bytes(&[d, c, b, a, f, e, h, g]) // the first three fields are little-endian
        .bytes(&rest)
        .bytes(&[6]) // woken by the power switch
        .bytes(&[0])
        .string("Virtual machine")
        .finish()
}

/// §7.4.
fn chassis() -> Vec<u8> {
    Structure::new(3, handle::CHASSIS)
        .string(MAKER)
        .bytes(&[1]) // other
        .string(env!("CARGO_PKG_VERSION"))
        .bytes(&[0, 0])
        .bytes(&[3, 3, 3, 2]) // safe, safe, safe; security unknown
        .dword(0)
        .bytes(&[0, 0, 0, 0, 0])
        .finish()
}

/// §7.5.
fn processor(n: u8) -> Vec<u8> {
    Structure::new(4, handle::PROCESSOR + u16::from(n))
        .string(&format!("CPU {n}"))
        .bytes(&[3, 1]) // central processor; family other
        .string(MAKER)
        .qword(0)
        .string("Virtual CPU")
        .bytes(&[0])
        .word(0)
        .word(2000)
        .word(2000)
        .bytes(&[0x41, 1]) // populated and enabled; upgrade other
        .word(0xFFFF)
        .word(0xFFFF)
        .word(0xFFFF)
        .bytes(&[0, 0, 0])
        .bytes(&[1, 1, 1]) // cores, enabled, threads
        .word(0x0002) // characteristics unknown
        .word(1)
        .finish()
}

/// §7.17.
fn memory_array(ram_bytes: u64, devices: u16) -> Vec<u8> {
    let kib = ram_bytes >> 10;
    let (capacity, extended) = if kib < 0x8000_0000 { (kib as u32, 0) } else { (0x8000_0000, ram_bytes) };
    Structure::new(16, handle::MEMORY_ARRAY)
        .bytes(&[1, 3, 3]) // other location; system memory; no error correction
        .dword(capacity)
        .word(handle::NONE)
        .word(devices)
        .qword(extended)
        .finish()
}

/// §7.18.
fn memory_device(ram_bytes: u64, n: u16) -> Vec<u8> {
    let mib = ((ram_bytes - (u64::from(n) * DIMM_BYTES).min(ram_bytes)).min(DIMM_BYTES) >> 20) as u16;
    Structure::new(17, handle::MEMORY_DEVICE + n)
        .word(handle::MEMORY_ARRAY)
        .word(handle::NONE)
        .word(64)
        .word(64)
        .word(mib)
        .bytes(&[9, 0]) // DIMM
        .string(&format!("DIMM {n}"))
        .bytes(&[0])
        .bytes(&[7]) // RAM
        .word(0x0002) // other
        .word(0)
        .string(MAKER)
        .bytes(&[0, 0, 0, 0])
        .dword(0)
        .word(0)
        .bytes(&[0; 6]) // voltages unknown
        .finish()
}

/// §7.20: one or two ranges, in KiB, last one inclusive.
fn mapped_addresses(ram_bytes: u64) -> Vec<Vec<u8>> {
    let low = ram_bytes.min(address::LOW_RAM_END);
    let range = |n: u16, start: u64, length: u64| {
        Structure::new(19, handle::MAPPED + n)
            .dword((start >> 10) as u32)
            .dword(((start + length) >> 10) as u32 - 1)
            .word(handle::MEMORY_ARRAY)
            .bytes(&[1])
            .qword(0)
            .qword(0)
            .finish()
    };
    let mut ranges = vec![range(0, 0, low)];
    if ram_bytes > low {
        ranges.push(range(1, address::HIGH_RAM, ram_bytes - low));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(ram_bytes: u64, cpus: u8) -> Tables {
        let uuid = std::array::from_fn(|n| n as u8);
        Tables::new(&Identity { name: "old\0 lace".to_owned(), uuid, cpus, ram_bytes })
    }

    /// Walks the structures as SeaBIOS does; gives (type, formatted bytes).
    fn walk(mut rest: &[u8]) -> Vec<(u8, &[u8])> {
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (formatted, strings) = rest.split_at(rest[1].into());
            found.push((formatted[0], formatted));
            let end = strings.windows(2).position(|pair| pair == [0, 0]).expect("strings end in two zeros");
            rest = &strings[end + 2..];
        }
        found
    }

    #[test]
    fn a_placed_entry_point_has_its_address_and_its_checksums() {
        let identity = Identity { name: "a".to_owned(), uuid: [0; 16], cpus: 1, ram_bytes: 1 << 28 };
        let entry = Tables::new(&identity).place(0xF_1000);
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(entry[0x18..0x1C], 0xF_1000_u32.to_le_bytes());
        assert_eq!((sum(&entry), sum(&entry[0x10..])), (0, 0));
    }

    #[test]
    fn every_type_is_there_and_the_anchor_counts_them() {
        let tables = tables(5 << 30, 2);
        let found = walk(&tables.structures);
        let types: Vec<u8> = found.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(types, [0, 1, 3, 4, 4, 16, 17, 19, 19, 32, 127]);
        // Lengths of SMBIOS 2.8: §7.1 to §7.20.
        let lengths: Vec<usize> = found.iter().map(|(_, formatted)| formatted.len()).collect();
        assert_eq!(lengths, [0x18, 0x1B, 0x16, 0x2A, 0x2A, 0x17, 0x28, 0x1F, 0x1F, 0x0B, 4]);
        assert_eq!(tables.anchor.len(), 0x1F, "SeaBIOS asks for exactly this");
        assert_eq!(tables.anchor[0x16..0x18], (tables.structures.len() as u16).to_le_bytes());
        assert_eq!(tables.anchor[0x1C], 11);
    }

    #[test]
    fn the_uuid_is_mixed_endian_and_strings_are_clean() {
        let tables = tables(64 << 20, 1);
        let system = walk(&tables.structures)[1].1;
        assert_eq!(system[8..18], [3, 2, 1, 0, 5, 4, 7, 6, 8, 9]);
        assert!(tables.structures.windows(9).any(|part| part == b"old lace\0"));
    }

    #[test]
    fn memory_is_described_in_full() {
        let tables = tables(40 << 30, 1);
        let found = walk(&tables.structures);
        let sizes: Vec<u16> = found
            .iter()
            .filter(|(kind, _)| *kind == 17)
            .map(|(_, bytes)| u16::from_le_bytes([bytes[12], bytes[13]]))
            .collect();
        assert_eq!(sizes, [16 << 10, 16 << 10, 8 << 10]);
    }
}
