//! The system BIOS ROM: at the top of 4 GiB always, and its last 128 KiB below 1 MiB as the PAM registers say.

use std::sync::Arc;

use crate::layout::address;
use crate::memory::{Layer, Mapping, Memory};

/// Images are whole blocks of this.
const BLOCK: u64 = 64 << 10;
/// The largest image: it must stay clear of the local APIC.
const LARGEST: u64 = 16 << 20;
/// How much of the image's end the chipset decodes below 1 MiB.
const LOW_WINDOW: u64 = 128 << 10;

/// An image of a size that no BIOS chip has.
#[derive(Debug, thiserror::Error)]
#[error("a BIOS image is 64 KiB to 16 MiB long, in steps of 64 KiB; this one has {0} bytes")]
pub struct RomSizeError(pub u64);

/// The BIOS chip.
pub struct SystemRom {
    offset: u64,
    length: u64,
    _top: Layer,
}

impl SystemRom {
    /// Puts `image` into memory and maps it so that its last byte is the last below 4 GiB.
    pub fn new(memory: &Arc<Memory>, image: &[u8]) -> Result<SystemRom, RomSizeError> {
        let length = image.len() as u64;
        if !length.is_multiple_of(BLOCK) || !(BLOCK..=LARGEST).contains(&length) {
            return Err(RomSizeError(length));
        }
        let offset = memory.allot(length);
        memory.write_at(offset, image);
        let top = memory.layer();
        top.set(vec![Mapping::rom(address::HIGH_RAM - length, address::HIGH_RAM, offset)]);
        Ok(SystemRom { offset, length, _top: top })
    }

    /// Where in the memfd the ROM byte lies that the chipset decodes at `address` below 1 MiB.
    pub fn below_megabyte(&self, address: u64) -> Option<u64> {
        let from_end = address::MEGABYTE.checked_sub(address)?;
        (from_end > 0 && from_end <= self.length.min(LOW_WINDOW))
            .then(|| self.offset + self.length - from_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_is_the_last_below_4_gib() {
        let memory = Memory::new(1 << 20, 1 << 20).unwrap();
        let mut image = vec![0u8; 256 << 10];
        image[(256 << 10) - 16] = 0xEA; // the reset vector's far jump
        let rom = SystemRom::new(&memory, &image).unwrap();
        let page = memory.page(0xFFFF_FFF0);
        let mut byte = [0];
        memory.read_at(page.read.unwrap() + 0xFF0, &mut byte);
        assert_eq!((byte[0], page.write), (0xEA, None));
        assert_eq!(memory.page(0xFFFB_F000).read, None);
        assert_eq!(rom.below_megabyte(0xF_FFF0), Some(page.read.unwrap() + 0xFF0));
        assert_eq!(rom.below_megabyte(0xD_FFFF), None);
        assert_eq!(rom.below_megabyte(0x10_0000), None);
    }

    #[test]
    fn odd_sizes_are_refused_with_a_reason() {
        let memory = Memory::new(1 << 20, 1 << 20).unwrap();
        let error = SystemRom::new(&memory, &[0; 1000]).err().unwrap();
        assert!(error.to_string().contains("1000 bytes"));
        assert!(SystemRom::new(&memory, &[]).is_err());
    }
}
