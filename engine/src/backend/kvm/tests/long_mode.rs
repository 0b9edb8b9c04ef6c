//! 64-bit guests: CR8, a high handler, a TSC deadline in the bus's time.

use std::sync::atomic::Ordering;

use cpu::Stop;
use cpu::registers::{Registers, Segment, Table, segment};

use super::board::{CODE, Guest, guest, start_state};
use crate::backend::Vcpu;

const PML4: u64 = 0x1_0000;
const PDPT: u64 = 0x1_1000;
const PD: u64 = 0x1_2000;
const GDT: u64 = 0x1_3000;
const IDT: u64 = 0x1_4000;

/// A guest in long mode, ring 0, its first 2 MiB mapped one to one and once more at the top half's start.
fn long_guest(code: &[u8]) -> Option<(Guest, Registers)> {
    let mut guest = guest(code)?;
    let put = |at: u64, value: u64| guest.board.memory.write_at(at, &value.to_le_bytes());
    put(PML4, PDPT | 3);
    put(PML4 + 8 * 256, PDPT | 3);
    put(PDPT, PD | 3);
    put(PD, 0x83); // 2 MiB page
    put(GDT + 8, 0x00AF_9B00_0000_FFFF);
    put(GDT + 16, 0x00CF_9300_0000_FFFF);
    let mut state = start_state();
    let flat = |selector, attributes| Segment { selector, base: 0, limit: !0, attributes, unusable: false };
    state.segments = [flat(0x10, 0xC093); 6];
    state.segments[segment::CS] = flat(8, 0xA09B);
    state.gdtr = Table { base: GDT, limit: 23 };
    state.idtr = Table { base: IDT, limit: 0xFFF };
    (state.cr0, state.cr3, state.cr4, state.efer) = (0x8000_0011, PML4, 0x20, 0x500);
    guest.vcpu.set_registers(&state).unwrap();
    Some((guest, state))
}

fn gate(guest: &Guest, vector: u64, offset: u64) {
    let low = offset & 0xFFFF | 8 << 16 | 0x8E00 << 32 | (offset & 0xFFFF_0000) << 32;
    guest.board.memory.write_at(IDT + 16 * vector, &low.to_le_bytes());
    guest.board.memory.write_at(IDT + 16 * vector + 8, &(offset >> 32).to_le_bytes());
}

#[test]
fn cr8_is_the_buss_task_priority() {
    let code = [
        0xB8, 9, 0, 0, 0, // mov eax, 9
        0x44, 0x0F, 0x22, 0xC0, // mov cr8, rax
        0xE6, 0x10, // out 0x10, al
        0x44, 0x0F, 0x20, 0xC3, // mov rbx, cr8
        0xF4, // hlt
    ];
    let Some((mut guest, _)) = long_guest(&code) else { return };
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.board.priority.load(Ordering::SeqCst), 9);
    assert_eq!(guest.state().general[3], 9);
}

#[test]
fn a_step_delivers_an_interrupt_to_a_handler_in_the_top_half() {
    let Some((mut guest, mut state)) = long_guest(&[0x90, 0x90, 0xF4]) else { return };
    if !guest.vm.features().guest_debug {
        println!("skipped: this host's KVM has no guest debugging");
        return;
    }
    let handler = 0xFFFF_8000_0000_0000 + 0x500;
    guest.board.memory.write_at(0x500, &[0x90, 0xF4]);
    gate(&guest, 0x40, handler);
    state.rflags |= 0x200;
    guest.vcpu.set_registers(&state).unwrap();
    guest.board.raise(0x40);
    assert_eq!(guest.step(), Stop::Step);
    assert_eq!(guest.state().rip, handler);
    assert_eq!(guest.step(), Stop::Step);
    assert_eq!(guest.state().rip, handler + 1);
}

#[test]
fn a_tsc_deadline_reaches_the_bus_in_its_own_time() {
    let code = [
        0x0F, 0x31, // rdtsc
        0x48, 0xC1, 0xE2, 0x20, // shl rdx, 32
        0x48, 0x09, 0xD0, // or rax, rdx
        0x48, 0xBB, 0, 0, 0, 0, 0, 1, 0, 0, // mov rbx, 1 << 40
        0x48, 0x01, 0xD8, // add rax, rbx
        0x48, 0x89, 0xC2, // mov rdx, rax
        0x48, 0xC1, 0xEA, 0x20, // shr rdx, 32
        0xB9, 0xE0, 0x06, 0, 0, // mov ecx, 0x6E0
        0x0F, 0x30, // wrmsr
        0x89, 0xC6, // mov esi, eax
        0x0F, 0x32, // rdmsr
        0xF4, // hlt
    ];
    let Some((mut guest, _)) = long_guest(&code) else { return };
    if !guest.vm.features().msr_exits {
        println!("skipped: this host's KVM does not leave MSRs to us");
        return;
    }
    assert_eq!(guest.run(), Stop::Halted);
    let state = guest.state();
    assert_eq!(state.rip, CODE + code.len() as u64);
    assert_eq!(state.general[0], state.general[6], "the guest reads what it wrote");
    let (index, deadline) = guest.board.apic_msrs.lock()[0];
    // The board's clock stands at 1 ms and ticks with 1 GHz; the host's runs at some GHz.
    let ahead = deadline - 1_000_000;
    assert_eq!(index, 0x6E0);
    assert!((1u64 << 36..1 << 42).contains(&ahead), "{ahead}");
}
