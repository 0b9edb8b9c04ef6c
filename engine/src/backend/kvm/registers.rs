//! [`cpu::Registers`] to and from what KVM keeps: the parts that need no vCPU are free functions.

use cpu::registers::{Event, EventKind, Registers, Segment, Table, segment};
use kvm_bindings::*;

/// An instruction-long hold of interrupts, as KVM tells them apart.
const SHADOW_MOV_SS: u8 = 1;
const SHADOW_STI: u8 = 2;
const IF: u64 = 1 << 9;

/// The general registers, RIP and RFLAGS.
pub fn general_to_kvm(registers: &Registers) -> kvm_regs {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = registers.general;
    let (rip, rflags) = (registers.rip, registers.rflags | 2);
    #[rustfmt::skip]
    let regs = kvm_regs {
        rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags,
    };
    regs
}

/// The general registers, RIP and RFLAGS.
pub fn general_from_kvm(r: &kvm_regs, registers: &mut Registers) {
    registers.general = [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ];
    registers.rip = r.rip;
    registers.rflags = r.rflags;
}

/// A segment with its attributes taken apart.
pub fn segment_to_kvm(segment: &Segment) -> kvm_segment {
    let bits = |at: u32, mask: u16| (segment.attributes >> at & mask) as u8;
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: bits(0, 0xF),
        s: bits(4, 1),
        dpl: bits(5, 3),
        present: bits(7, 1),
        avl: bits(12, 1),
        l: bits(13, 1),
        db: bits(14, 1),
        g: bits(15, 1),
        unusable: u8::from(segment.unusable),
        padding: 0,
    }
}

/// A segment with its attributes put together.
pub fn segment_from_kvm(s: &kvm_segment) -> Segment {
    let put = |value: u8, mask: u16, at: u32| (u16::from(value) & mask) << at;
    Segment {
        selector: s.selector,
        base: s.base,
        limit: s.limit,
        attributes: put(s.type_, 0xF, 0)
            | put(s.s, 1, 4)
            | put(s.dpl, 3, 5)
            | put(s.present, 1, 7)
            | put(s.avl, 1, 12)
            | put(s.l, 1, 13)
            | put(s.db, 1, 14)
            | put(s.g, 1, 15),
        unusable: s.unusable != 0,
    }
}

/// Segments, tables and control registers.
pub fn system_to_kvm(registers: &Registers) -> kvm_sregs {
    let seg = |index: usize| segment_to_kvm(&registers.segments[index]);
    let table = |t: Table| kvm_dtable { base: t.base, limit: t.limit, padding: [0; 3] };
    let mut tr = segment_to_kvm(&registers.tr);
    // A processor has no other than a busy task; VM entry checks it (SDM 3C §27.3.1.2).
    tr.type_ |= 0b10;
    kvm_sregs {
        es: seg(segment::ES),
        cs: seg(segment::CS),
        ss: seg(segment::SS),
        ds: seg(segment::DS),
        fs: seg(segment::FS),
        gs: seg(segment::GS),
        tr,
        ldt: segment_to_kvm(&registers.ldtr),
        gdt: table(registers.gdtr),
        idt: table(registers.idtr),
        cr0: registers.cr0,
        cr2: registers.cr2,
        cr3: registers.cr3,
        cr4: registers.cr4,
        cr8: registers.cr8,
        efer: registers.efer,
        apic_base: registers.msrs.apic_base,
        interrupt_bitmap: [0; 4],
    }
}

/// Segments, tables and control registers.
pub fn system_from_kvm(s: &kvm_sregs, registers: &mut Registers) {
    registers.segments = [&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs].map(segment_from_kvm);
    registers.ldtr = segment_from_kvm(&s.ldt);
    registers.tr = segment_from_kvm(&s.tr);
    registers.gdtr = Table { base: s.gdt.base, limit: s.gdt.limit };
    registers.idtr = Table { base: s.idt.base, limit: s.idt.limit };
    (registers.cr0, registers.cr2, registers.cr3, registers.cr4) = (s.cr0, s.cr2, s.cr3, s.cr4);
    (registers.cr8, registers.efer) = (s.cr8, s.efer);
    registers.msrs.apic_base = s.apic_base;
}

/// DR0 to DR3, DR6, DR7.
pub fn debug_to_kvm(registers: &Registers) -> kvm_debugregs {
    let [d0, d1, d2, d3, dr6, dr7] = registers.debug;
    kvm_debugregs { db: [d0, d1, d2, d3], dr6, dr7, ..Default::default() }
}

/// DR0 to DR3, DR6, DR7.
pub fn debug_from_kvm(d: &kvm_debugregs) -> [u64; 6] {
    let [d0, d1, d2, d3] = d.db;
    [d0, d1, d2, d3, d.dr6, d.dr7]
}

/// What is on its way into the guest, and what holds it off.
pub fn events_to_kvm(registers: &Registers) -> kvm_vcpu_events {
    let flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    let mut events = kvm_vcpu_events { flags, ..Default::default() };
    events.nmi.masked = u8::from(registers.nmi_blocked);
    if registers.interrupt_shadow {
        // STI's shadow with interrupts disabled is a state VM entry refuses.
        events.interrupt.shadow = if registers.rflags & IF != 0 { SHADOW_STI } else { SHADOW_MOV_SS };
    }
    match registers.pending {
        None => {}
        Some(Event { vector, error_code, kind: EventKind::Exception }) => {
            events.exception.injected = 1;
            events.exception.nr = vector;
            events.exception.has_error_code = u8::from(error_code.is_some());
            events.exception.error_code = error_code.unwrap_or(0);
        }
        Some(Event { kind: EventKind::Nmi, .. }) => events.nmi.injected = 1,
        Some(Event { vector, kind, .. }) => {
            events.interrupt.injected = 1;
            events.interrupt.nr = vector;
            events.interrupt.soft = u8::from(kind == EventKind::Software);
        }
    }
    events
}

/// What is on its way into the guest, and what holds it off.
pub fn events_from_kvm(events: &kvm_vcpu_events, registers: &mut Registers) {
    registers.interrupt_shadow = events.interrupt.shadow != 0;
    registers.nmi_blocked = events.nmi.masked != 0;
    registers.pending = if events.exception.injected != 0 {
        let error_code = (events.exception.has_error_code != 0).then_some(events.exception.error_code);
        Some(Event { vector: events.exception.nr, error_code, kind: EventKind::Exception })
    } else if events.interrupt.injected != 0 {
        let kind = if events.interrupt.soft != 0 { EventKind::Software } else { EventKind::Interrupt };
        Some(Event { vector: events.interrupt.nr, error_code: None, kind })
    } else if events.nmi.injected != 0 {
        Some(Event { vector: 2, error_code: None, kind: EventKind::Nmi })
    } else {
        None
    };
}

/// The APIC base as the kernel may keep it: without a local APIC of its own it knows no x2APIC mode.
pub fn kernel_apic_base(value: u64) -> u64 {
    const X2APIC_ENABLE: u64 = 1 << 10;
    value & !X2APIC_ENABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_registers() -> Registers {
        let mut registers = Registers::reset();
        registers.general = std::array::from_fn(|i| 0x1111 * i as u64);
        (registers.rip, registers.rflags) = (0x7C00, 0x246);
        registers.segments[segment::CS] =
            Segment { selector: 8, base: 0, limit: u32::MAX, attributes: 0xA09B, unusable: false };
        registers.segments[segment::GS] =
            Segment { selector: 0, base: 0xFFFF_8000_0000_0000, limit: 0, attributes: 0, unusable: true };
        registers.gdtr = Table { base: 0x1000, limit: 0x37 };
        registers.idtr = Table { base: 0x2000, limit: 0xFFF };
        (registers.cr0, registers.cr2, registers.cr3) = (0x8000_0011, 0xDEAD, 0x3000);
        (registers.cr4, registers.cr8, registers.efer) = (0x20, 4, 0x500);
        registers.debug = [1, 2, 3, 4, 0xFFFF_0FF1, 0x401];
        registers
    }

    #[test]
    fn general_system_and_debug_registers_survive() {
        let registers = some_registers();
        let mut back = Registers::reset();
        general_from_kvm(&general_to_kvm(&registers), &mut back);
        system_from_kvm(&system_to_kvm(&registers), &mut back);
        back.debug = debug_from_kvm(&debug_to_kvm(&registers));
        assert_eq!(back, registers);
    }

    #[test]
    fn every_kind_of_event_survives() {
        let kinds = [
            Event { vector: 14, error_code: Some(2), kind: EventKind::Exception },
            Event { vector: 6, error_code: None, kind: EventKind::Exception },
            Event { vector: 0x20, error_code: None, kind: EventKind::Interrupt },
            Event { vector: 0x80, error_code: None, kind: EventKind::Software },
            Event { vector: 2, error_code: None, kind: EventKind::Nmi },
        ];
        for pending in kinds.map(Some).into_iter().chain([None]) {
            let registers =
                Registers { pending, interrupt_shadow: true, nmi_blocked: true, ..some_registers() };
            let mut back = some_registers();
            events_from_kvm(&events_to_kvm(&registers), &mut back);
            assert_eq!(back, registers);
        }
    }

    #[test]
    fn a_shadow_with_interrupts_disabled_is_not_that_of_sti() {
        let mut registers = some_registers();
        registers.interrupt_shadow = true;
        assert_eq!(events_to_kvm(&registers).interrupt.shadow, SHADOW_STI);
        registers.rflags = 2;
        assert_eq!(events_to_kvm(&registers).interrupt.shadow, SHADOW_MOV_SS);
    }
}
