//! Local APIC of one processor, in xAPIC (memory) and x2APIC (register) form.
//!
//! Memory: 4 KiB at 0xFEE00000, one 32-bit register per 16 bytes, each processor seeing its own.
//! Registers: MSR 0x1B (base), 0x6E0 (TSC deadline), 0x800-0x8FF (x2APIC).
//! Lines: LINT0 from the 8259A pair, LINT1 from NMI; messages in and out; INTR to its processor.
//! The timer's bus clock is 1 GHz (see `lapic_timer`). Version 0x14, six LVT entries, EOI broadcasts
//! can be suppressed. After reset LINT0 of the bootstrap processor passes ExtINT through although the APIC is
//! software-disabled, as firmware and other virtual machines expect.
//! Left out on purpose: moving the window (a new base raises #GP), SMI (no system management mode),
//! remote read, CMCI, focus processors; performance and thermal LVT entries never fire.
//! Source: Intel SDM volume 3, chapter 11.

use serde::{Deserialize, Serialize};

pub use super::lapic_timer::{BUS_HZ, Timer, TimerMode};
use super::lapic_view::LapicView;
use super::message::{DeliveryMode, Message};
use super::vectors::Vectors;
use crate::clock::Nanoseconds;

/// Version 0x14, highest LVT entry 5, EOI broadcast suppression.
const VERSION: u32 = 0x0105_0014;
/// The window's address, as MSR 0x1B shows it.
const BASE: u64 = 0xFEE0_0000;
const BASE_BOOTSTRAP: u64 = 1 << 8;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;

const SVR_ENABLE: u32 = 1 << 8;
const SVR_NO_EOI_BROADCAST: u32 = 1 << 12;
const LVT_MASKED: u32 = 1 << 16;
/// What LINT0 of the bootstrap processor holds after reset: ExtINT, not masked.
const LINT0_EXTERNAL: u32 = 0x700;

/// Delivery status: sending takes no time, and in x2APIC mode the bit is gone, but written back by systems that know
/// the older form.
const ICR_PENDING: u64 = 1 << 12;
/// SDM 3, figure 11-28.
const X2APIC_ICR_RESERVED: u64 = 1 << 13 | 3 << 16 | 0xFFF << 20;

const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
const RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
const ILLEGAL_REGISTER: u32 = 1 << 7;

/// Entries of the local vector table, in the order of their registers 0x320 to 0x370.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Lvt {
    /// 0x320.
    Timer = 0,
    /// 0x330.
    Thermal = 1,
    /// 0x340.
    Performance = 2,
    /// 0x350.
    Lint0 = 3,
    /// 0x360.
    Lint1 = 4,
    /// 0x370.
    Error = 5,
}

/// Writable bits of the LVT entries.
const LVT_WRITABLE: [u32; 6] = [0x7_00FF, 0x1_07FF, 0x1_07FF, 0x1_A7FF, 0x1_A7FF, 0x1_00FF];

/// Who an interprocessor interrupt goes to, seen from its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shorthand {
    /// The destination field.
    None,
    /// The sender.
    Oneself,
    /// All, the sender too.
    All,
    /// All but the sender.
    Others,
}

/// What a register write asks of the world outside the APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// Send this.
    Send(Shorthand, Message),
    /// Tell the I/O APICs that this level-triggered vector has ended.
    EndOfInterrupt(u8),
}

/// The chip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lapic {
    id: u32,
    base: u64,
    irr: Vectors,
    isr: Vectors,
    tmr: Vectors,
    tpr: u8,
    /// Logical destination: bits 31 to 24 in xAPIC mode, all of it in x2APIC mode.
    ldr: u32,
    dfr: u32,
    svr: u32,
    /// Error status as last latched by a write.
    esr: u32,
    /// Errors since.
    errors: u32,
    icr: u64,
    lvt: [u32; 6],
    timer: Timer,
}

impl Lapic {
    /// The APIC of the processor with APIC id `id`.
    pub fn new(id: u32, bootstrap: bool) -> Lapic {
        let mut lapic = Lapic {
            id,
            base: BASE | BASE_ENABLE | if bootstrap { BASE_BOOTSTRAP } else { 0 },
            irr: Vectors::default(),
            isr: Vectors::default(),
            tmr: Vectors::default(),
            tpr: 0,
            ldr: 0,
            dfr: 0,
            svr: 0,
            esr: 0,
            errors: 0,
            icr: 0,
            lvt: [0; 6],
            timer: Timer::default(),
        };
        lapic.init();
        lapic
    }

    /// INIT: everything but the id and the base register (SDM 3, 11.4.7.3).
    pub fn init(&mut self) {
        let (id, base) = (self.id, self.base);
        let lint0 = if base & BASE_BOOTSTRAP != 0 { LINT0_EXTERNAL } else { LVT_MASKED };
        *self = Lapic {
            id,
            base,
            irr: Vectors::default(),
            isr: Vectors::default(),
            tmr: Vectors::default(),
            tpr: 0,
            ldr: 0,
            dfr: 0xFFFF_FFFF,
            svr: 0xFF,
            esr: 0,
            errors: 0,
            icr: 0,
            lvt: [LVT_MASKED, LVT_MASKED, LVT_MASKED, lint0, LVT_MASKED, LVT_MASKED],
            timer: Timer::default(),
        };
        if self.is_x2apic() {
            self.ldr = x2apic_logical_id(id);
        }
    }

    /// The APIC id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether MSR 0x1B enables the APIC at all.
    pub fn is_enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    /// Whether the APIC is in x2APIC mode.
    pub fn is_x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    /// Whether the spurious vector register enables the APIC.
    pub fn is_software_enabled(&self) -> bool {
        self.svr & SVR_ENABLE != 0
    }

    /// One entry of the local vector table.
    pub fn lvt(&self, entry: Lvt) -> u32 {
        self.lvt[entry as usize]
    }

    /// The timer, for the inspector.
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Requested vectors.
    pub fn irr(&self) -> &Vectors {
        &self.irr
    }

    /// Vectors in service.
    pub fn isr(&self) -> &Vectors {
        &self.isr
    }

    /// All of it, at guest time `now`, for the inspector.
    pub fn view(&self, now: Nanoseconds) -> LapicView {
        LapicView {
            id: self.id,
            mode: match (self.is_enabled(), self.is_x2apic()) {
                (false, _) => "off",
                (true, false) => "xAPIC",
                (true, true) => "x2APIC",
            },
            is_enabled: self.is_software_enabled(),
            tpr: self.tpr,
            ppr: self.processor_priority(),
            ldr: self.ldr,
            dfr: self.dfr,
            svr: self.svr,
            esr: self.esr,
            icr: self.icr,
            lvt: self.lvt,
            requested: self.irr.list(),
            in_service: self.isr.list(),
            level_triggered: self.tmr.list(),
            timer_mode: self.timer.mode().name(),
            timer_initial: self.timer.initial(),
            timer_current: self.timer.current(now),
            timer_divide: self.timer.divide(),
            tsc_deadline: self.timer.tsc_deadline(),
        }
    }

    /// The mode in which `entry` passes its pin on; `None` if masked.
    pub fn pin_mode(&self, entry: Lvt) -> Option<DeliveryMode> {
        let lvt = self.lvt(entry);
        if lvt & LVT_MASKED != 0 { None } else { DeliveryMode::from_bits(lvt >> 8) }
    }

    /// Whether the 8259A pair's output goes straight to the processor.
    pub fn passes_external(&self) -> bool {
        !self.is_enabled() || self.pin_mode(Lvt::Lint0) == Some(DeliveryMode::ExternalInterrupt)
    }

    /// A rising edge on LINT0 or LINT1. Fixed vectors are taken here; says whether it is an NMI.
    pub fn pin_rises(&mut self, entry: Lvt) -> bool {
        if !self.is_enabled() {
            return entry == Lvt::Lint1;
        }
        match self.pin_mode(entry) {
            Some(DeliveryMode::Fixed) => {
                self.accept(self.lvt(entry) as u8, false);
                false
            }
            mode => mode == Some(DeliveryMode::Nmi),
        }
    }

    /// A fixed interrupt arrives.
    pub fn accept(&mut self, vector: u8, level: bool) {
        if !self.is_enabled() || !self.is_software_enabled() {
            return;
        }
        if vector < 16 {
            return self.error(RECEIVE_ILLEGAL_VECTOR);
        }
        self.irr.set(vector, true);
        self.tmr.set(vector, level);
    }

    fn error(&mut self, bit: u32) {
        self.errors |= bit;
        let lvt = self.lvt(Lvt::Error);
        let vector = lvt as u8;
        if lvt & LVT_MASKED == 0 && self.is_software_enabled() && vector >= 16 {
            self.irr.set(vector, true);
            self.tmr.set(vector, false);
        }
    }

    /// Whether a message to `destination` is for this APIC (SDM 3, 11.6.2).
    pub fn is_addressed(&self, destination: u32, logical: bool) -> bool {
        if !self.is_enabled() {
            return false;
        }
        // An 8-bit sender (I/O APIC, MSI, xAPIC) says "all" as 0xFF.
        let all = destination == 0xFFFF_FFFF || destination == 0xFF && (!logical || !self.is_x2apic());
        if all {
            return true;
        }
        if !logical {
            return destination == self.id;
        }
        if self.is_x2apic() {
            return destination >> 16 == self.ldr >> 16 && destination & self.ldr & 0xFFFF != 0;
        }
        if destination > 0xFF {
            return false;
        }
        let own = self.ldr >> 24;
        match self.dfr >> 28 {
            0xF => own & destination != 0,
            0x0 => own >> 4 == destination >> 4 && own & destination & 0xF != 0,
            _ => false,
        }
    }

    /// The processor priority register.
    pub fn processor_priority(&self) -> u8 {
        let served = self.isr.highest().unwrap_or(0) & 0xF0;
        if self.tpr & 0xF0 >= served { self.tpr } else { served }
    }

    /// The vector that would be delivered now.
    pub fn pending(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (self.is_enabled() && vector & 0xF0 > self.processor_priority() & 0xF0).then_some(vector)
    }

    /// The processor takes the interrupt. With none deliverable any more it is the spurious vector,
    /// which no in-service bit records.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(vector) = self.pending() else { return self.svr as u8 };
        self.irr.set(vector, false);
        self.isr.set(vector, true);
        vector
    }

    /// Task priority as CR8 shows it.
    pub fn task_priority(&self) -> u8 {
        self.tpr >> 4
    }

    /// Sets the task priority through CR8.
    pub fn set_task_priority(&mut self, priority: u8) {
        self.tpr = priority << 4;
    }

    fn end_of_interrupt(&mut self) -> Effect {
        let Some(vector) = self.isr.highest() else { return Effect::Nothing };
        self.isr.set(vector, false);
        let tell = self.tmr.contains(vector) && self.svr & SVR_NO_EOI_BROADCAST == 0;
        if tell { Effect::EndOfInterrupt(vector) } else { Effect::Nothing }
    }

    /// Lets time pass; how often the timer expired. Whoever calls this has the vector accepted.
    pub fn advance(&mut self, now: Nanoseconds) -> u64 {
        self.timer.advance(now)
    }

    /// The vector of the timer's interrupt; `None` while it is masked.
    pub fn timer_vector(&self) -> Option<u8> {
        let lvt = self.lvt(Lvt::Timer);
        (lvt & LVT_MASKED == 0).then_some(lvt as u8)
    }

    /// When [`Lapic::advance`] is next needed: nobody waits for a masked timer.
    pub fn deadline(&self) -> Option<Nanoseconds> {
        if self.lvt(Lvt::Timer) & LVT_MASKED == 0 { self.timer.deadline() } else { None }
    }

    /// Reads the dword at `offset` of the window.
    pub fn read(&mut self, offset: u64, now: Nanoseconds) -> u32 {
        if !self.is_enabled() || self.is_x2apic() {
            return 0xFFFF_FFFF;
        }
        match offset & 0xFFF {
            0x020 => self.id << 24,
            0x0E0 => self.dfr | 0x0FFF_FFFF,
            0x310 => (self.icr >> 32) as u32,
            offset => match self.read_shared(offset, now) {
                Some(value) => value,
                None => {
                    self.error(ILLEGAL_REGISTER);
                    0
                }
            },
        }
    }

    /// Registers that read alike in both modes.
    fn read_shared(&self, offset: u64, now: Nanoseconds) -> Option<u32> {
        if offset & 0xF != 0 {
            return None;
        }
        let index = (offset >> 4) as usize;
        Some(match offset {
            0x030 => VERSION,
            0x080 => self.tpr.into(),
            0x090 | 0x0A0 => self.processor_priority().into(),
            0x0B0 | 0x0C0 => 0,
            0x0D0 => self.ldr,
            0x0F0 => self.svr,
            0x100..=0x170 => self.isr.word(index),
            0x180..=0x1F0 => self.tmr.word(index),
            0x200..=0x270 => self.irr.word(index),
            0x280 => self.esr,
            0x300 => self.icr as u32,
            0x320..=0x370 => self.lvt[index - 0x32],
            0x380 => self.timer.initial(),
            0x390 => self.timer.current(now),
            0x3E0 => self.timer.divide(),
            _ => return None,
        })
    }

    /// Writes the dword at `offset` of the window.
    pub fn write(&mut self, offset: u64, value: u32, now: Nanoseconds) -> Effect {
        if !self.is_enabled() || self.is_x2apic() {
            return Effect::Nothing;
        }
        match offset & 0xFFF {
            // The id is read-only, as in the processors that have x2APIC; so are the others here.
            0x020 | 0x030 | 0x090 | 0x0A0 | 0x0C0 | 0x390 | 0x100..=0x27F => {}
            0x0D0 => self.ldr = value & 0xFF00_0000,
            0x0E0 => self.dfr = value | 0x0FFF_FFFF,
            0x300 => {
                self.icr = self.icr & !0xFFFF_FFFF | u64::from(value & 0xC_CFFF);
                return self.send((self.icr >> 56) as u32);
            }
            0x310 => self.icr = self.icr & 0xFFFF_FFFF | u64::from(value & 0xFF00_0000) << 32,
            offset => match self.write_shared(offset, value, now) {
                Some(effect) => return effect,
                None => self.error(ILLEGAL_REGISTER),
            },
        }
        Effect::Nothing
    }

    /// Registers that are written alike in both modes.
    fn write_shared(&mut self, offset: u64, value: u32, now: Nanoseconds) -> Option<Effect> {
        match offset {
            0x080 => self.tpr = value as u8,
            0x0B0 => return Some(self.end_of_interrupt()),
            0x0F0 => self.set_spurious(value),
            0x280 => self.esr = std::mem::take(&mut self.errors),
            0x320..=0x370 if offset & 0xF == 0 => self.set_lvt((offset >> 4) as usize - 0x32, value),
            0x380 => self.timer.set_initial(value, now),
            0x3E0 => self.timer.set_divide(value, now),
            _ => return None,
        }
        Some(Effect::Nothing)
    }

    fn set_spurious(&mut self, value: u32) {
        self.svr = value & 0x13FF;
        if !self.is_software_enabled() {
            // SDM 3, 11.4.7.2: while disabled by software all LVT mask bits are set.
            self.lvt.iter_mut().for_each(|lvt| *lvt |= LVT_MASKED);
        }
    }

    fn set_lvt(&mut self, index: usize, value: u32) {
        let forced = if self.is_software_enabled() { 0 } else { LVT_MASKED };
        self.lvt[index] = value & LVT_WRITABLE[index] | forced;
        if index == Lvt::Timer as usize {
            self.timer.set_mode(TimerMode::from_lvt(value));
        }
    }

    fn send(&mut self, destination: u32) -> Effect {
        let low = self.icr as u32;
        let (level_triggered, assert) = (low & 0x8000 != 0, low & 0x4000 != 0);
        let Some(mode) = DeliveryMode::from_bits(low >> 8) else { return Effect::Nothing };
        match mode {
            // INIT level de-assert only synchronised arbitration ids.
            DeliveryMode::Init if level_triggered && !assert => return Effect::Nothing,
            DeliveryMode::ExternalInterrupt => return Effect::Nothing,
            DeliveryMode::Fixed | DeliveryMode::LowestPriority if low & 0xFF < 16 => {
                self.error(SEND_ILLEGAL_VECTOR);
                return Effect::Nothing;
            }
            _ => {}
        }
        let shorthand = match (low >> 18) & 3 {
            0 => Shorthand::None,
            1 => Shorthand::Oneself,
            2 => Shorthand::All,
            _ => Shorthand::Others,
        };
        // Interprocessor interrupts are edges: the trigger bit counts only for INIT de-assert.
        let logical = low & 0x800 != 0;
        Effect::Send(shorthand, Message { destination, logical, mode, vector: low as u8, level: false })
    }

    /// Reads MSR 0x1B, 0x6E0 or 0x800 to 0x8FF; `None` raises #GP.
    pub fn read_msr(&self, index: u32, now: Nanoseconds) -> Option<u64> {
        match index {
            0x1B => Some(self.base),
            0x6E0 => Some(self.timer.tsc_deadline()),
            0x802 if self.is_x2apic() => Some(self.id.into()),
            0x830 if self.is_x2apic() => Some(self.icr),
            // Not in x2APIC mode: APR, EOI (write only), RRD, and DFR (SDM 3, table 11-6).
            0x809 | 0x80B | 0x80C => None,
            0x800..=0x8FF if self.is_x2apic() => {
                self.read_shared(u64::from(index & 0xFF) << 4, now).map(u64::from)
            }
            _ => None,
        }
    }

    /// Writes such a register; `None` raises #GP.
    pub fn write_msr(&mut self, index: u32, value: u64, now: Nanoseconds, tsc_hz: u64) -> Option<Effect> {
        match index {
            0x1B => self.set_base(value),
            0x6E0 => {
                self.timer.set_tsc_deadline(value, tsc_hz);
                Some(Effect::Nothing)
            }
            0x800..=0x8FF if self.is_x2apic() => self.write_x2apic(index & 0xFF, value, now),
            _ => None,
        }
    }

    fn write_x2apic(&mut self, register: u32, value: u64, now: Nanoseconds) -> Option<Effect> {
        if register == 0x30 {
            if value & X2APIC_ICR_RESERVED != 0 {
                return None;
            }
            self.icr = value & !ICR_PENDING;
            return Some(self.send((value >> 32) as u32));
        }
        let value = u32::try_from(value).ok()?;
        let writable = match register {
            0x08 => 0xFF,
            0x0B | 0x28 => 0,
            0x0F => 0x13FF,
            // Systems write back the status bits they read: sending and, for the pins, remote IRR.
            0x35 | 0x36 => LVT_WRITABLE[register as usize - 0x32] | 0x5000,
            0x32..=0x37 => LVT_WRITABLE[register as usize - 0x32] | 0x1000,
            0x38 => u32::MAX,
            0x3E => 0xB,
            0x3F => 0xFF,
            _ => return None,
        };
        if value & !writable != 0 {
            return None;
        }
        if register == 0x3F {
            if value < 16 {
                self.error(SEND_ILLEGAL_VECTOR);
            } else {
                self.accept(value as u8, false);
            }
            return Some(Effect::Nothing);
        }
        self.write_shared(u64::from(register) << 4, value, now)
    }

    /// SDM 3, 11.12.5: which changes of mode are allowed.
    fn set_base(&mut self, value: u64) -> Option<Effect> {
        const MODE: u64 = BASE_ENABLE | BASE_X2APIC;
        if value & !(BASE_BOOTSTRAP | MODE) != BASE {
            return None;
        }
        let (old, new) = (self.base & MODE, value & MODE);
        match (old, new) {
            (_, BASE_X2APIC) | (0, MODE) | (MODE, BASE_ENABLE) => return None,
            (BASE_ENABLE, MODE) => {
                self.ldr = x2apic_logical_id(self.id);
                self.icr &= 0xFFFF_FFFF;
            }
            _ => {}
        }
        self.base = value;
        if new == 0 && old != 0 {
            self.init();
        }
        Some(Effect::Nothing)
    }
}

/// SDM 3, 11.12.10.2: cluster in the high half, one bit in the low half.
fn x2apic_logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}

#[cfg(test)]
#[path = "lapic_tests.rs"]
mod tests;
