//! A case on the software CPU: a guest whose user code sees the window as the host's does, and which has no IDT,
//! so that every exception ends it.

use std::sync::Arc;

use cpu::registers::{Fpu, segment};
use cpu::soft::state::FpuArea;
use cpu::soft::{CpuModel, SoftCpu};
use cpu::{Pins, Registers, RunLimit, Segment, Stop, Table};

use super::bus::Bus;
use super::case::{Case, Mode, Outcome};
use super::descriptors;
use super::forms;
use super::masks::{undefined_after, why_not_compared, why_not_on_host};
use super::window::{BASE, BYTES, CODE, CODE_END, PAGES, RIGHTS, Rights};

/// Guest-physical places: page tables, descriptor tables, the window.
const TABLES: u64 = 0x1000;
const PAGE_TABLE: u64 = 0x4000;
const GDT: u64 = 0x8000;
const LDT: u64 = 0x8100;
const TSS: u64 = 0x8200;
const WINDOW: u64 = 0x1_0000;
/// Linear address of guest-physical 0, for supervisors only.
const KERNEL: u64 = 0xFFFF_8000_0000_0000;

/// Instructions a case may take.
const LIMIT: u64 = 100_000;

/// Instructions of a case's way that are looked at.
const STEPS: usize = 500;

/// The software CPU and its guest.
pub struct Software {
    cpu: SoftCpu,
    bus: Bus,
    registers: Registers,
}

impl Software {
    /// The `host` model in long mode.
    pub fn new() -> Software {
        let mut bus = Bus::new(WINDOW as usize / 4096 + PAGES);
        bus.put64(TABLES, 0x2007); // PML4
        bus.put64(TABLES + 8 * 256, 0x5003);
        bus.put64(0x5000, 0x6003);
        bus.put64(0x6000, 0x83);
        bus.put64(0x2000, 0x3007);
        bus.put64(0x3000 + 8 * (BASE >> 21), PAGE_TABLE | 7);
        for (n, entry) in descriptors::gdt().into_iter().enumerate() {
            bus.put64(GDT + 8 * n as u64, entry);
        }
        for (n, local) in descriptors::LDT.iter().enumerate() {
            bus.put64(LDT + 8 * n as u64, local.descriptor());
        }
        bus.put64(TSS + 0x60, 0xFFFF_0000_0000_0000); // no I/O permission map
        let mut registers = Registers::reset();
        registers.cr0 = 0x8005_0033;
        registers.cr3 = TABLES;
        registers.cr4 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 16 | 1 << 18;
        registers.efer = 0xD01;
        registers.xcr0 = 7;
        registers.gdtr = Table { base: KERNEL + GDT, limit: 127 };
        registers.idtr = Table { base: KERNEL, limit: 0 };
        let system = |base, limit, attributes| Segment {
            selector: 0x50,
            base: KERNEL + base,
            limit,
            attributes,
            unusable: false,
        };
        registers.ldtr = system(LDT, 8 * descriptors::LDT.len() as u32 - 1, 0x82);
        registers.tr = system(TSS, 0x67, 0x8B);
        let mut software =
            Software { cpu: SoftCpu::new(CpuModel::Host, Arc::new(Pins::new()), 0), bus, registers };
        software.clean();
        software
    }

    /// The whole window.
    pub fn window(&mut self) -> &mut [u8] {
        &mut self.bus.memory()[WINDOW as usize..WINDOW as usize + BYTES]
    }

    /// Whether the guest wrote to a page of the window since the last [`Software::clean`].
    pub fn is_dirty(&mut self, page: usize) -> bool {
        let entry = (PAGE_TABLE + 8 * ((BASE >> 12 & 511) + page as u64)) as usize;
        self.bus.memory()[entry] & 0x40 != 0
    }

    /// Writes the window's page-table entries afresh.
    pub fn clean(&mut self) {
        for (page, rights) in RIGHTS.into_iter().enumerate() {
            let entry = PAGE_TABLE + 8 * ((BASE >> 12 & 511) + page as u64);
            let mut value = (WINDOW + 4096 * page as u64) | 5;
            value |= u64::from(rights.writable()) << 1 | u64::from(!rights.executable()) << 63;
            self.bus.put64(entry, if rights == Rights::Absent { 0 } else { value });
        }
    }

    /// Runs a case on the window as it is; `None` if it does not come to an end.
    pub fn run(&mut self, case: &Case) -> Option<Outcome> {
        self.load(case);
        let stop = self.cpu.run(&self.bus, RunLimit { instructions: LIMIT });
        let Stop::Shutdown(records) = stop else {
            assert_eq!(stop, Stop::Limit, "a user without an IDT can only fault");
            return None;
        };
        let first = records.into_iter().next()?;
        let state = first.registers?;
        Some(Outcome {
            general: state.general,
            rip: state.rip,
            flags: state.rflags,
            selectors: state.segments.map(|segment| segment.selector),
            bases: [state.segments[segment::FS].base, state.segments[segment::GS].base],
            vector: first.vector,
            error: u64::from(first.error_code.unwrap_or(0)),
            address: first.address.unwrap_or(0),
            fpu: case.fpu.is_some().then_some(state.fpu),
        })
    }

    /// Whether a case, on the window as it is, leads through code that was not looked at when it was made: the
    /// middle of an instruction, its own code in another mode, or code it changed.
    pub fn goes_astray(&mut self, case: &Case) -> bool {
        self.load(case);
        for _ in 0..STEPS {
            let now = self.cpu.registers();
            let (selector, rip) = (now.segments[segment::CS].selector, now.rip);
            if case.is_astray(selector, rip) {
                return true;
            }
            let (base, mode) = descriptors::code_segment(selector);
            let at = rip.wrapping_add(base).wrapping_sub(BASE) as usize;
            if (CODE..CODE_END).contains(&at) {
                let item = case.item_at(rip).filter(|_| selector == case.selectors[1]);
                let written = item.map_or(&[0xF4][..], |item| &item.bytes);
                let code = &self.window()[at..(at + 15).min(BYTES)];
                let found = forms::decode(mode, code, rip);
                let is_compared = why_not_on_host(&found).or(why_not_compared(&found, code)).is_none();
                if !code.starts_with(written) && (!is_compared || undefined_after(&found, 0) != 0) {
                    return true;
                }
            }
            if self.cpu.run(&self.bus, RunLimit { instructions: 1 }) != Stop::Step {
                break;
            }
        }
        false
    }

    fn load(&mut self, case: &Case) {
        let registers = &mut self.registers;
        registers.general = case.general;
        registers.rip = case.ip();
        registers.rflags = case.flags;
        registers.cr2 = 0;
        registers.halted = false;
        for (segment, selector) in registers.segments.iter_mut().zip(case.selectors) {
            *segment = descriptors::segment(selector);
        }
        if case.mode == Mode::Bits64 {
            registers.segments[segment::FS].base = case.bases[0];
            registers.segments[segment::GS].base = case.bases[1];
        }
        *registers.fpu = match &case.fpu {
            Some(fpu) => FpuArea { bytes: **fpu }.to_fpu(),
            None => Fpu::default(),
        };
        self.cpu.set_registers(registers);
    }
}
