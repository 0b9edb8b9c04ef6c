//! 8259A programmable interrupt controllers, the cascaded pair of a PC/AT.
//!
//! Ports: 0x20-0x21 (master), 0xA0-0xA1 (slave), 0x4D0-0x4D1 (ELCR: level or edge per input).
//! Lines: 16 inputs, ISA IRQ 0 to 15 (IRQ 2 is the cascade); one output, INTR.
//! Done: ICW1-4, OCW1-3, edge and level sensing, special mask, special fully nested, automatic EOI,
//! rotation, poll, spurious IRQ 7 and 15. As in the datasheet, an edge-triggered request goes away
//! when its line falls before it is acknowledged.
//! Left out on purpose: MCS-80/85 mode (ICW4 bit 0 is taken as set), buffered mode (no effect on a PC).
//! Sources: Intel 8259A datasheet (231468-003); Intel 82371SB (PIIX3) datasheet, section 2.5, for ELCR.

use serde::{Deserialize, Serialize};

/// Where a chip stands in its initialisation sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Init {
    /// Power-on: no ICW1 has been seen; the output stays low.
    Never,
    /// The next write to the odd port is ICW2.
    Icw2,
    /// ... ICW3.
    Icw3,
    /// ... ICW4.
    Icw4,
    /// Operational: the odd port is OCW1, the mask.
    Done,
}

/// One 8259A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chip8259 {
    init: Init,
    /// ICW1 bit 0: ICW4 follows.
    needs_icw4: bool,
    /// ICW1 bit 1: no ICW3, no cascade.
    single: bool,
    /// ICW1 bit 3: all inputs are level-triggered.
    all_level: bool,
    /// ICW2, bits 7 to 3.
    vector_base: u8,
    /// ICW3: inputs with a slave (master), or the slave's number.
    icw3: u8,
    /// ICW4 bit 1.
    automatic_eoi: bool,
    /// ICW4 bit 4.
    special_fully_nested: bool,
    /// Edge/level control register: one bit per level-triggered input.
    elcr: u8,
    /// Levels on the inputs now.
    lines: u8,
    /// Rising edges not yet acknowledged.
    edges: u8,
    /// Interrupt mask register.
    imr: u8,
    /// In-service register.
    isr: u8,
    /// The input with the lowest priority; the next one has the highest.
    lowest: u8,
    rotate_on_automatic_eoi: bool,
    special_mask: bool,
    /// OCW3: port 0 reads the ISR rather than the IRR.
    read_isr: bool,
    /// OCW3: the next read is a poll.
    poll: bool,
}

impl Default for Chip8259 {
    fn default() -> Chip8259 {
        Chip8259 {
            init: Init::Never,
            needs_icw4: false,
            single: false,
            all_level: false,
            vector_base: 0,
            icw3: 0,
            automatic_eoi: false,
            special_fully_nested: false,
            elcr: 0,
            lines: 0,
            edges: 0,
            imr: 0xFF,
            isr: 0,
            lowest: 7,
            rotate_on_automatic_eoi: false,
            special_mask: false,
            read_isr: false,
            poll: false,
        }
    }
}

impl Chip8259 {
    /// Drives input `input` (0 to 7).
    pub fn set_line(&mut self, input: u8, level: bool) {
        let bit = 1 << (input & 7);
        if !level {
            self.lines &= !bit;
            self.edges &= !bit;
        } else if self.lines & bit == 0 {
            self.lines |= bit;
            self.edges |= bit;
        }
    }

    /// The interrupt request register.
    pub fn irr(&self) -> u8 {
        self.lines & (self.edges | self.level_inputs())
    }

    /// The in-service register.
    pub fn isr(&self) -> u8 {
        self.isr
    }

    /// The interrupt mask register.
    pub fn imr(&self) -> u8 {
        self.imr
    }

    /// The vector of input 0.
    pub fn vector_base(&self) -> u8 {
        self.vector_base
    }

    fn level_inputs(&self) -> u8 {
        if self.all_level { 0xFF } else { self.elcr }
    }

    /// 0 is the highest priority, 7 the lowest.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest).wrapping_sub(1) & 7
    }

    fn highest(&self, set: u8) -> Option<u8> {
        (0..8).filter(|input| set & 1 << input != 0).min_by_key(|&input| self.rank(input))
    }

    /// The input that requests service: unmasked, and of higher priority than all in service.
    /// `cascaded` are the inputs whose slave may nest within itself (special fully nested mode).
    fn request(&self, cascaded: u8) -> Option<u8> {
        if self.init != Init::Done {
            return None;
        }
        let input = self.highest(self.irr() & !self.imr)?;
        // 8259A datasheet, special mask mode: a masked level in service blocks no other.
        let serving = if self.special_mask { self.isr & !self.imr } else { self.isr };
        let Some(served) = self.highest(serving) else { return Some(input) };
        let nests = served == input && self.special_fully_nested && cascaded & 1 << input != 0;
        (nests || self.rank(input) < self.rank(served)).then_some(input)
    }

    /// The INT output.
    pub fn output(&self) -> bool {
        self.request(self.slaves()).is_some()
    }

    fn slaves(&self) -> u8 {
        if self.single { 0 } else { self.icw3 }
    }

    /// An acknowledge: the input served, or `None` for a spurious one (answered as input 7).
    fn serve(&mut self) -> Option<u8> {
        let input = self.request(self.slaves())?;
        self.edges &= !(1 << input);
        if !self.automatic_eoi {
            self.isr |= 1 << input;
        } else if self.rotate_on_automatic_eoi {
            self.lowest = input;
        }
        Some(input)
    }

    /// The acknowledge cycle of a single chip: the vector. With no request it is that of input 7.
    pub fn acknowledge(&mut self) -> u8 {
        self.vector_base | self.serve().unwrap_or(7)
    }

    /// Reads port 0 or 1.
    pub fn read(&mut self, port: u8) -> u8 {
        if self.poll {
            // 8259A datasheet, poll command: the read is the acknowledge.
            self.poll = false;
            return self.serve().map_or(0, |input| 0x80 | input);
        }
        match (port & 1, self.read_isr) {
            (0, false) => self.irr(),
            (0, true) => self.isr,
            _ => self.imr,
        }
    }

    /// Writes port 0 or 1.
    pub fn write(&mut self, port: u8, value: u8) {
        match port & 1 {
            0 if value & 0x10 != 0 => self.icw1(value),
            0 if value & 0x08 != 0 => self.ocw3(value),
            0 => self.ocw2(value),
            _ => self.write_odd(value),
        }
    }

    fn icw1(&mut self, value: u8) {
        // 8259A datasheet, "initialization command words": what ICW1 clears.
        *self = Chip8259 {
            init: Init::Icw2,
            needs_icw4: value & 1 != 0,
            single: value & 2 != 0,
            all_level: value & 8 != 0,
            vector_base: self.vector_base,
            elcr: self.elcr,
            lines: self.lines,
            imr: 0,
            ..Chip8259::default()
        };
    }

    fn write_odd(&mut self, value: u8) {
        let after_icw3 = if self.needs_icw4 { Init::Icw4 } else { Init::Done };
        match self.init {
            Init::Never | Init::Done => self.imr = value,
            Init::Icw2 => {
                self.vector_base = value & 0xF8;
                self.init = if self.single { after_icw3 } else { Init::Icw3 };
            }
            Init::Icw3 => {
                self.icw3 = value;
                self.init = after_icw3;
            }
            Init::Icw4 => {
                self.automatic_eoi = value & 2 != 0;
                self.special_fully_nested = value & 0x10 != 0;
                self.init = Init::Done;
            }
        }
    }

    fn ocw2(&mut self, value: u8) {
        let (rotate, specific, eoi) = (value & 0x80 != 0, value & 0x40 != 0, value & 0x20 != 0);
        let level = value & 7;
        match (rotate, specific, eoi) {
            (_, false, false) => self.rotate_on_automatic_eoi = rotate,
            (_, false, true) => {
                let served = if self.special_mask { self.isr & !self.imr } else { self.isr };
                if let Some(input) = self.highest(served) {
                    self.isr &= !(1 << input);
                    if rotate {
                        self.lowest = input;
                    }
                }
            }
            (_, true, true) => {
                self.isr &= !(1 << level);
                if rotate {
                    self.lowest = level;
                }
            }
            (true, true, false) => self.lowest = level,
            (false, true, false) => {}
        }
    }

    fn ocw3(&mut self, value: u8) {
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
        self.poll = value & 4 != 0;
        if value & 2 != 0 {
            self.read_isr = value & 1 != 0;
        }
    }

    fn is_valid(&self) -> bool {
        self.lowest < 8 && self.vector_base & 7 == 0
    }
}

/// What an acknowledge cycle gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The vector put on the bus.
    pub vector: u8,
    /// The IRQ served; `None` if the request was spurious.
    pub irq: Option<u8>,
}

/// Master and slave, wired as in a PC/AT: the slave's output is the master's input 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The chip at 0x20.
    pub master: Chip8259,
    /// The chip at 0xA0.
    pub slave: Chip8259,
}

/// The master's input that the slave drives.
const CASCADE: u8 = 2;
/// ELCR bits that exist: IRQ 0, 1, 2, 8 and 13 are always edge-triggered (PIIX3, section 2.5.8).
const ELCR_WRITABLE: [u8; 2] = [0xF8, 0xDE];

impl Pair {
    /// Drives IRQ `irq` (0 to 15). IRQ 2 is the cascade and cannot be driven.
    pub fn set_line(&mut self, irq: u8, level: bool) {
        match irq {
            CASCADE => {}
            0..8 => self.master.set_line(irq, level),
            8..16 => self.slave.set_line(irq - 8, level),
            _ => {}
        }
        self.cascade();
    }

    /// INTR to the processor.
    pub fn output(&self) -> bool {
        self.master.output()
    }

    /// Whether IRQ `irq` is requested and not yet acknowledged, masked or not.
    pub fn is_requested(&self, irq: u8) -> bool {
        match irq {
            0..8 => self.master.irr() & 1 << irq != 0,
            8..16 => self.slave.irr() & 1 << (irq - 8) != 0,
            _ => false,
        }
    }

    /// The two interrupt acknowledge pulses. With no request the answer is spurious: IRQ 7, or IRQ 15
    /// if only the slave's request went away.
    pub fn acknowledge(&mut self) -> Acknowledged {
        let Some(input) = self.master.serve() else {
            return Acknowledged { vector: self.master.vector_base | 7, irq: None };
        };
        if input != CASCADE || self.master.slaves() & 1 << CASCADE == 0 {
            return Acknowledged { vector: self.master.vector_base | input, irq: Some(input) };
        }
        let irq = self.slave.serve();
        self.cascade();
        Acknowledged { vector: self.slave.vector_base | irq.unwrap_or(7), irq: irq.map(|n| n + 8) }
    }

    /// Reads `port` 0 or 1 of the master (`chip` 0) or the slave (1).
    pub fn read(&mut self, chip: u8, port: u8) -> u8 {
        let value = if chip == 0 { self.master.read(port) } else { self.slave.read(port) };
        self.cascade();
        value
    }

    /// Writes `port` 0 or 1 of the master (`chip` 0) or the slave (1).
    pub fn write(&mut self, chip: u8, port: u8, value: u8) {
        if chip == 0 {
            self.master.write(port, value);
        } else {
            self.slave.write(port, value);
        }
        self.cascade();
    }

    /// Reads ELCR 1 (`chip` 0) or 2 (1).
    pub fn elcr(&self, chip: u8) -> u8 {
        if chip == 0 { self.master.elcr } else { self.slave.elcr }
    }

    /// Writes ELCR 1 (`chip` 0) or 2 (1).
    pub fn set_elcr(&mut self, chip: u8, value: u8) {
        if chip == 0 {
            self.master.elcr = value & ELCR_WRITABLE[0];
        } else {
            self.slave.elcr = value & ELCR_WRITABLE[1];
        }
        self.cascade();
    }

    /// Whether a saved pair can be used.
    pub fn is_valid(&self) -> bool {
        self.master.is_valid() && self.slave.is_valid()
    }

    /// The slave lowers its output between two requests (8259A datasheet, INT falls with INTA), so a
    /// level that stays high after an acknowledge is a new edge for the master.
    fn cascade(&mut self) {
        let output = self.slave.output();
        if output && self.master.edges & 1 << CASCADE == 0 {
            self.master.set_line(CASCADE, false);
        }
        self.master.set_line(CASCADE, output);
    }
}

#[cfg(test)]
#[path = "pic_tests.rs"]
mod tests;
