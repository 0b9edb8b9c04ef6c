//! The live state to the architectural one and back.

use crate::registers::{Fpu, Registers, segment};

use super::state::{Cpu, FpuArea, flag};

impl FpuArea {
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes[at..at + N].try_into().expect("the range has N bytes")
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// As the field-by-field form. Offsets: Intel SDM 1, tables 10-2 and 13-1.
    pub fn to_fpu(&self) -> Fpu {
        let mut fpu = Fpu {
            control: u16::from_le_bytes(self.get(0)),
            status: u16::from_le_bytes(self.get(2)),
            tags: self.bytes[4],
            opcode: u16::from_le_bytes(self.get(6)),
            instruction: u64::from_le_bytes(self.get(8)),
            data: u64::from_le_bytes(self.get(16)),
            mxcsr: u32::from_le_bytes(self.get(24)),
            ..Fpu::default()
        };
        for index in 0..8 {
            fpu.stack[index] = self.get(32 + 16 * index);
        }
        for (index, ymm) in fpu.ymm.iter_mut().enumerate() {
            for (part, at) in [160, 168, 576, 584].into_iter().enumerate() {
                ymm[part] = u64::from_le_bytes(self.get(at + 16 * index));
            }
        }
        fpu
    }

    /// From the field-by-field form; what the host would refuse to load is masked off.
    pub fn from_fpu(fpu: &Fpu) -> FpuArea {
        let mut area = FpuArea { bytes: [0; 832] };
        area.put(0, &(fpu.control & 0x1F7F | 0x40).to_le_bytes());
        area.put(2, &fpu.status.to_le_bytes());
        area.bytes[4] = fpu.tags;
        area.put(6, &(fpu.opcode & 0x7FF).to_le_bytes());
        area.put(8, &fpu.instruction.to_le_bytes());
        area.put(16, &fpu.data.to_le_bytes());
        area.put(24, &(fpu.mxcsr & 0xFFFF).to_le_bytes());
        area.put(28, &0xFFFFu32.to_le_bytes());
        for index in 0..8 {
            area.put(32 + 16 * index, &fpu.stack[index]);
        }
        for (index, ymm) in fpu.ymm.iter().enumerate() {
            for (part, at) in [160, 168, 576, 584].into_iter().enumerate() {
                area.put(at + 16 * index, &ymm[part].to_le_bytes());
            }
        }
        area.bytes[512] = 7; // XSTATE_BV: x87, SSE, AVX
        area
    }
}

impl Cpu {
    /// The architectural state.
    pub fn registers(&self) -> Registers {
        Registers {
            general: self.general,
            rip: self.rip,
            rflags: self.flags(),
            segments: self.segments,
            ldtr: self.ldtr,
            tr: self.tr,
            gdtr: self.gdtr,
            idtr: self.idtr,
            cr0: self.cr0,
            cr2: self.cr2,
            cr3: self.cr3,
            cr4: self.cr4,
            cr8: self.cr8,
            debug: self.debug,
            efer: self.efer,
            xcr0: self.xcr0,
            msrs: self.msrs,
            fpu: Box::new(self.fpu_area().to_fpu()),
            interrupt_shadow: self.interrupt_shadow,
            nmi_blocked: self.nmi_blocked,
            // MWAIT may end at any time, and what it waits for is not part of the state.
            halted: self.halted && !self.waits_for_write,
            pending: self.pending,
        }
    }

    /// Becomes this state: nothing translated before is trusted.
    pub fn set_registers(&mut self, registers: &Registers) {
        self.general = registers.general;
        self.rip = registers.rip;
        self.set_flags(registers.rflags);
        self.segments = registers.segments;
        self.ldtr = registers.ldtr;
        self.tr = registers.tr;
        self.gdtr = registers.gdtr;
        self.idtr = registers.idtr;
        self.cr0 = registers.cr0;
        self.cr2 = registers.cr2;
        self.cr3 = registers.cr3;
        self.cr4 = registers.cr4;
        self.cr8 = registers.cr8;
        self.debug = registers.debug;
        self.efer = registers.efer;
        self.xcr0 = registers.xcr0;
        self.msrs = registers.msrs;
        self.take_x87();
        *self.fpu = FpuArea::from_fpu(&registers.fpu);
        self.interrupt_shadow = registers.interrupt_shadow;
        self.shadow_of_sti = false;
        self.nmi_blocked = registers.nmi_blocked;
        self.halted = registers.halted;
        self.stop_waiting();
        self.pending = registers.pending;
        self.cpl = match registers.cr0 & 1 != 0 {
            false => 0,
            true if registers.rflags & flag::VM != 0 => 3,
            true => registers.segments[segment::SS].dpl(),
        };
        self.pdptes_stale = true;
        self.flush_translations(true);
        self.breakpoints_changed();
        self.update_mode();
        self.monitor.forget_notices();
        self.monitor.passes = None;
    }
}
