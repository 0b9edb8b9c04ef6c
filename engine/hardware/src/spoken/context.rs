//! What earlier accesses make a later one mean: index registers, flip-flops, latches of chips that have them.

use super::Access;
use crate::bus::Space;

/// No index was seen yet: the trace began in the middle.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// Follows the index registers of one machine's chips.
#[derive(Clone, Debug)]
pub struct Context {
    cmos: u32,
    crtc: u32,
    sequencer: u32,
    graphics: u32,
    attribute: u32,
    attribute_takes_data: bool,
    vbe: u32,
    pci: u32,
    fw_cfg: u32,
    ioapic: u32,
    keyboard: u32,
    e1000: u32,
    uart_latch: u32,
    sound: u32,
    /// Per 8254 channel: access (1 low, 2 high, 3 both), and whether the next byte is the high one.
    counters: [(u32, bool); 3],
}

impl Default for Context {
    fn default() -> Context {
        Context {
            cmos: UNKNOWN,
            crtc: UNKNOWN,
            sequencer: UNKNOWN,
            graphics: UNKNOWN,
            attribute: UNKNOWN,
            attribute_takes_data: false,
            vbe: UNKNOWN,
            pci: UNKNOWN,
            fw_cfg: UNKNOWN,
            ioapic: UNKNOWN,
            keyboard: UNKNOWN,
            e1000: UNKNOWN,
            uart_latch: 0,
            sound: UNKNOWN,
            counters: [(0, false); 3],
        }
    }
}

impl Context {
    /// Takes note of an access; the number that [`super::speak`] needs to put it into words.
    pub fn follow(&mut self, access: &Access<'_>) -> u32 {
        let value = access.value as u32;
        match (access.device, access.address) {
            ("8254", 0x40..=0x43) => self.counter(access),
            ("mc146818", 0x70 | 0x72) => set(&mut self.cmos, value & 0x7F, access.write),
            ("mc146818", _) => self.cmos,
            ("8042", 0x64) => set(&mut self.keyboard, value & 0xFF, access.write),
            // The byte after a command is the command's.
            ("8042", _) if access.write => std::mem::replace(&mut self.keyboard, UNKNOWN),
            ("8042", _) => self.keyboard,
            ("vga", _) if access.space == Space::Port => self.video(access),
            ("pci", 0xCF8) => set(&mut self.pci, value, access.write),
            ("pci", _) => self.pci,
            ("fw_cfg", 0x510) => set(&mut self.fw_cfg, value & 0xFFFF, access.write),
            ("fw_cfg", _) => self.fw_cfg,
            ("interrupts", 0xFEC0_0000) => set(&mut self.ioapic, value & 0xFF, access.write),
            ("interrupts", 0xFEC0_0010) => self.ioapic,
            ("com1" | "com2", _) => {
                // The divisor latch access bit, LCR bit 7.
                if access.offset == 3 && access.write {
                    self.uart_latch = value >> 7 & 1;
                }
                self.uart_latch
            }
            ("e1000", _) if access.space == Space::Port && access.offset == 0 => {
                set(&mut self.e1000, value, access.write)
            }
            ("e1000", _) if access.space == Space::Port => self.e1000,
            (name, _) if super::sound::knows(name) => match access.offset {
                4 => set(&mut self.sound, value & 0xFF, access.write),
                _ => self.sound,
            },
            _ => UNKNOWN,
        }
    }

    /// Access mode in bits 1:0, whether this is the high byte in bit 2.
    fn counter(&mut self, access: &Access<'_>) -> u32 {
        let channel = (access.address - 0x40) as usize;
        if channel < 3 {
            let (mode, high) = self.counters[channel];
            if mode == 3 {
                self.counters[channel].1 = !high;
            }
            let is_high = mode == 2 || mode == 3 && high;
            return mode | u32::from(is_high) << 2;
        }
        let control = access.value as u32;
        if access.write && control >> 6 != 3 && control >> 4 & 3 != 0 {
            self.counters[(control >> 6 & 3) as usize] = (control >> 4 & 3, false);
        }
        0
    }

    fn video(&mut self, access: &Access<'_>) -> u32 {
        let value = access.value as u32 & 0xFF;
        // A word to an index port sets index and data at once.
        let wide = access.width.bytes() == 2;
        match access.address {
            0x3C0 if access.write => {
                let data = self.attribute_takes_data;
                self.attribute_takes_data = !data;
                if !data {
                    self.attribute = value & 0x1F;
                }
                self.attribute & 0xFF | u32::from(data) << 8
            }
            0x3C1 => self.attribute & 0xFF | 1 << 8,
            0x3BA | 0x3DA if !access.write => {
                self.attribute_takes_data = false;
                UNKNOWN
            }
            0x3C4 => set(&mut self.sequencer, value, access.write),
            0x3C5 => self.sequencer,
            0x3CE => set(&mut self.graphics, value, access.write),
            0x3CF => self.graphics,
            0x3B4 | 0x3D4 => set(&mut self.crtc, value, access.write),
            0x3B5 | 0x3D5 => self.crtc,
            0x1CE if wide => set(&mut self.vbe, access.value as u32, access.write),
            0x1CF | 0x1D0 => self.vbe,
            _ => UNKNOWN,
        }
    }
}

fn set(index: &mut u32, value: u32, write: bool) -> u32 {
    if write {
        *index = value;
    }
    *index
}
