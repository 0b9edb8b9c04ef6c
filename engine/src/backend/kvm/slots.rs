//! Which memory slots the memory map asks for, and the fewest changes from those there are.
//!
//! A page whose writes go elsewhere than its reads come from (a ROM, shadow RAM being filled) is a
//! read-only slot: reads and fetches are direct, writes come to the bus. What can only be written has
//! no slot.

use hardware::memory::Mapping;

/// One run of guest-physical addresses backed by the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// First guest-physical address.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Offset in the machine's memory.
    pub offset: u64,
    /// Writes come to the bus.
    pub read_only: bool,
}

/// Slots are cut here, so that what is remapped often (video window, shadow RAM, the megabyte A20
/// aliases) never makes the large slots be made anew.
const CUTS: [u64; 4] = [0xA_0000, 0xC_0000, 0x10_0000, 0x20_0000];

/// The slots that make up `map`, in order of address.
pub fn wanted(map: &[Mapping]) -> Vec<Slot> {
    let mut slots = Vec::with_capacity(map.len() + CUTS.len());
    for mapping in map {
        let Some(offset) = mapping.read else { continue };
        let mut start = mapping.start;
        let inner = CUTS.iter().copied().filter(|cut| mapping.start < *cut && *cut < mapping.end);
        for end in inner.chain([mapping.end]) {
            slots.push(Slot {
                start,
                bytes: end - start,
                offset: offset + (start - mapping.start),
                read_only: mapping.write != Some(offset),
            });
            start = end;
        }
    }
    slots
}

/// What to tell the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Slots to delete first.
    pub delete: Vec<usize>,
    /// Slots to make then.
    pub create: Vec<(usize, Slot)>,
}

/// The changes from `current` (indexed by slot number) to `wanted`; `current` is brought up to date.
pub fn change(current: &mut Vec<Option<Slot>>, wanted: &[Slot]) -> Changes {
    let mut changes = Changes::default();
    for (number, entry) in current.iter_mut().enumerate() {
        if entry.is_some_and(|slot| !wanted.contains(&slot)) {
            *entry = None;
            changes.delete.push(number);
        }
    }
    for slot in wanted {
        if current.contains(&Some(*slot)) {
            continue;
        }
        let number = current.iter().position(Option::is_none).unwrap_or_else(|| {
            current.push(None);
            current.len() - 1
        });
        current[number] = Some(*slot);
        changes.create.push((number, *slot));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn slot(start: u64, end: u64, offset: u64, read_only: bool) -> Slot {
        Slot { start, bytes: end - start, offset, read_only }
    }

    #[test]
    fn ram_is_cut_where_the_chipset_remaps() {
        let slots = wanted(&[Mapping::ram(0, 0xA_0000, 0), Mapping::ram(0xC_0000, 64 * MIB, 0xC_0000)]);
        assert_eq!(
            slots,
            vec![
                slot(0, 0xA_0000, 0, false),
                slot(0xC_0000, MIB, 0xC_0000, false),
                slot(MIB, 2 * MIB, MIB, false),
                slot(2 * MIB, 64 * MIB, 2 * MIB, false),
            ]
        );
    }

    #[test]
    fn roms_and_shadow_being_filled_are_read_only_and_write_only_has_none() {
        let rom = 128 * MIB;
        let filling = Mapping { start: 0xE_0000, end: 0xF_0000, read: Some(rom), write: Some(0xE_0000) };
        let deaf = Mapping { start: 0xD_0000, end: 0xE_0000, read: None, write: Some(0xD_0000) };
        let slots = wanted(&[deaf, filling, Mapping::rom(0xF_0000, MIB, rom + 0x1_0000)]);
        assert_eq!(
            slots,
            vec![slot(0xE_0000, 0xF_0000, rom, true), slot(0xF_0000, MIB, rom + 0x1_0000, true)]
        );
    }

    #[test]
    fn only_what_differs_is_changed_and_numbers_are_used_again() {
        let mut current = Vec::new();
        let (low, high) = (slot(0, 0xA_0000, 0, false), slot(MIB, 2 * MIB, MIB, false));
        let rom = slot(0xC_0000, MIB, 9 * MIB, true);
        change(&mut current, &[low, rom, high]);
        assert_eq!(change(&mut current, &[low, rom, high]), Changes::default());
        let shadow = slot(0xC_0000, MIB, 0xC_0000, false);
        let changes = change(&mut current, &[low, shadow, high]);
        assert_eq!(changes, Changes { delete: vec![1], create: vec![(1, shadow)] });
        assert_eq!(change(&mut current, &[low]), Changes { delete: vec![1, 2], create: Vec::new() });
    }
}
