//! Control registers, MSRs, flags, system calls: through decoded instructions.

use iced_x86::{Decoder, DecoderOptions};

use super::machine::*;
use crate::registers::segment;
use crate::soft::control::flat_segment;
use crate::soft::fault::{Fallible, Fault, Flow};
use crate::soft::model::{CpuModel, Feature, Model};
use crate::soft::state::{Cpu, flag};
use crate::soft::system;
use crate::soft::testing::machine;
use crate::soft::walk::bits::*;

const GP: Fault = Fault::general_protection(0);
const UD: Fault = Fault::invalid_opcode();

/// Executes one instruction at the current RIP through its cold handler.
fn run(cpu: &mut Cpu, bytes: &[u8]) -> Fallible<Flow> {
    let bits = match (cpu.is_64_bit(), cpu.segments[segment::CS].is_big()) {
        (true, _) => 64,
        (_, true) => 32,
        _ => 16,
    };
    let instruction = Decoder::with_ip(bits, bytes, cpu.rip, DecoderOptions::NONE).decode();
    let handler = system::handler(&instruction).unwrap_or_else(|| panic!("no handler: {instruction}"));
    cpu.rip = instruction.next_ip();
    handler(cpu, &instruction)
}

#[test]
fn real_to_protected_to_long_and_back() {
    let (mut cpu, bus) = machine(64);
    put_gdt(&bus, CODE_0, descriptor(0, 0xFFFFF, 0xC09A));
    put_gdt(&bus, DATA_0, descriptor(0, 0xFFFFF, 0xC092));
    put_gdt(&bus, LONG_0, descriptor(0, 0xFFFFF, 0xA09A));
    bus.put(0x600, &[0x7F, 0, 0, 0x10, 0, 0]); // pseudo-descriptor of the GDT
    bus.put64(0x10000, 0x11007);
    bus.put64(0x11000, 0x12007);
    bus.put64(0x12000, 0x87);
    cpu.with_bus(&bus, |cpu| {
        cpu.load_segment(segment::DS, 0).unwrap();
        run(cpu, &[0x0F, 0x01, 0x16, 0x00, 0x06]).unwrap(); // lgdt [0x600]
        assert_eq!((cpu.gdtr.base, cpu.gdtr.limit), (0x1000, 0x7F));
        cpu.general[0] = 0x11;
        assert_eq!(run(cpu, &[0x0F, 0x22, 0xC0]), Ok(Flow::Jumped)); // mov cr0, eax
        assert!(cpu.is_protected() && cpu.cpl == 0);
        assert!(!cpu.segments[segment::CS].is_big());
        run(cpu, &[0x66, 0xEA, 0x00, 0x07, 0x00, 0x00, 0x08, 0x00]).unwrap(); // jmp dword 8:0x700
        assert!(cpu.segments[segment::CS].is_big());
        cpu.general[0] = u64::from(DATA_0);
        for bytes in [[0x8E, 0xD8], [0x8E, 0xD0]] {
            run(cpu, &bytes).unwrap(); // mov ds, ax; mov ss, ax
        }
        assert!(cpu.interrupt_shadow);
        // long mode: PAE, CR3, EFER.LME, PG
        cpu.general[0] = CR4_PAE;
        run(cpu, &[0x0F, 0x22, 0xE0]).unwrap();
        cpu.general[0] = 0x10000;
        run(cpu, &[0x0F, 0x22, 0xD8]).unwrap();
        (cpu.general[1], cpu.general[0], cpu.general[2]) = (0xC000_0080, EFER_LME, 0);
        run(cpu, &[0x0F, 0x30]).unwrap();
        assert!(!cpu.is_long_mode());
        cpu.general[0] = CR0_PG | CR0_PE;
        run(cpu, &[0x0F, 0x22, 0xC0]).unwrap();
        assert!(cpu.is_long_mode() && !cpu.is_64_bit());
        run(cpu, &[0xEA, 0x00, 0x08, 0x00, 0x00, LONG_0 as u8, 0x00]).unwrap();
        assert!(cpu.is_64_bit());
        assert_eq!(cpu.read::<u64>(segment::DS, 0x10000), Ok(0x11027), "paging is on");
        cpu.general[0] = CR0_PE;
        assert_eq!(run(cpu, &[0x0F, 0x22, 0xC0]), Err(GP), "PG cannot go from 64-bit code");
        cpu.general[0] = 0;
        assert_eq!(run(cpu, &[0x0F, 0x22, 0xE0]), Err(GP), "nor PAE");
        cpu.far_jump(CODE_0, 0x900).unwrap();
        cpu.general[0] = CR0_PE;
        run(cpu, &[0x0F, 0x22, 0xC0]).unwrap();
        assert!(!cpu.is_long_mode() && cpu.efer & EFER_LME != 0);
        cpu.general[0] = 0;
        run(cpu, &[0x0F, 0x22, 0xC0]).unwrap();
        assert!(!cpu.is_protected_or_v8086());
        assert!(cpu.segments[segment::DS].limit == u32::MAX, "unreal mode");
        assert_eq!(cpu.read::<u32>(segment::DS, 0x10000), Ok(0x11027), "beyond 64 KiB");
    });
}

#[test]
fn illegal_control_register_values_fault() {
    let (mut cpu, bus) = protected();
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.load_cr0(CR0_PG), Err(GP), "PG without PE");
        assert_eq!(cpu.load_cr0(CR0_PE | CR0_NW), Err(GP), "NW without CD");
        assert_eq!(cpu.load_cr0(1 << 32), Err(GP));
        assert_eq!(cpu.load_cr4(CR4_VME), Err(GP), "not offered");
        assert_eq!(cpu.load_cr4(1 << 31), Err(GP));
        cpu.load_efer(EFER_LME).unwrap();
        assert_eq!(cpu.load_cr0(CR0_PE | CR0_PG), Err(GP), "LME without PAE");
        cpu.load_efer(0).unwrap();
        assert_eq!(cpu.load_efer(1 << 12), Err(GP));
        cpu.load_cr4(CR4_PAE).unwrap();
        cpu.load_cr3(0x9000).unwrap();
        bus.put64(0x9000, 0x1E7);
        assert_eq!(cpu.load_cr0(CR0_PE | CR0_PG), Err(GP), "reserved PDPTE bits");
        enter_ring(cpu, 3);
        assert_eq!(run(cpu, &[0x0F, 0x22, 0xC0]), Err(GP));
    });
}

#[test]
fn legacy_pae_keeps_its_pointers_until_cr3_is_loaded() {
    let (mut cpu, bus) = protected();
    bus.put64(0x9000, 0xA001);
    bus.put64(0xA000, 0x87);
    cpu.with_bus(&bus, |cpu| {
        cpu.load_cr4(CR4_PAE | CR4_PSE).unwrap();
        cpu.load_cr3(0x9000).unwrap();
        cpu.load_cr0(cpu.cr0 | CR0_PG).unwrap();
        bus.put64(0x9000, 0);
        bus.put32(0x5000, 77);
        assert_eq!(cpu.read::<u32>(segment::DS, 0x5000), Ok(77));
        cpu.load_cr3(0x9000).unwrap();
        assert_eq!(cpu.read::<u32>(segment::DS, 0x5000), Err(Fault::page_fault(0)));
        // Restored from its architectural state, it reads the pointers again.
        bus.put64(0x9000, 0xA001);
        let registers = cpu.registers();
        cpu.set_registers(&registers);
        assert_eq!(cpu.read::<u32>(segment::DS, 0x5000), Ok(77));
    });
}

#[test]
fn syscall_and_sysret_swap_rings_in_64_bit_mode() {
    let (mut cpu, bus) = long();
    cpu.msrs.star = 0x0020_0008 << 32;
    cpu.msrs.lstar = 0xFFFF_8000_0000_1000;
    cpu.msrs.fmask = flag::IF | flag::DF;
    enter_long_ring(&mut cpu, 3);
    cpu.load_flags(flag::IF | flag::CF | 2);
    cpu.with_bus(&bus, |cpu| {
        run(cpu, &[0x0F, 0x05]).unwrap();
        assert_eq!((cpu.cpl, cpu.rip), (0, 0xFFFF_8000_0000_1000));
        assert_eq!((cpu.general[1], cpu.general[11]), (0x502, flag::IF | flag::CF | 2));
        assert_eq!(cpu.flags(), flag::CF | 2);
        assert_eq!((cpu.segments[segment::CS].selector, cpu.segments[segment::SS].selector), (8, 0x10));
        assert_eq!(cpu.general[4], 0x7000, "RSP is the guest's business");
        run(cpu, &[0x48, 0x0F, 0x07]).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.flags()), (3, 0x502, flag::IF | flag::CF | 2));
        assert_eq!((cpu.segments[segment::CS].selector, cpu.segments[segment::SS].selector), (0x33, 0x2B));
        assert_eq!(run(cpu, &[0x48, 0x0F, 0x07]), Err(GP), "SYSRET is for ring 0");
        cpu.efer &= !EFER_SCE;
        assert_eq!(run(cpu, &[0x0F, 0x05]), Err(UD));
    });
}

#[test]
fn sysenter_and_sysexit_use_their_registers() {
    let (mut cpu, bus) = protected();
    enter_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(run(cpu, &[0x0F, 0x34]), Err(GP), "SYSENTER_CS is null");
        cpu.msrs.sysenter_cs = 0x08;
        cpu.msrs.sysenter_esp = 0x8800;
        cpu.msrs.sysenter_eip = 0xC000;
        cpu.load_flags(flag::IF | 2);
        run(cpu, &[0x0F, 0x34]).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4], cpu.flags()), (0, 0xC000, 0x8800, 2));
        (cpu.general[2], cpu.general[1]) = (0x510, 0x7000);
        run(cpu, &[0x0F, 0x35]).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.general[4]), (3, 0x510, 0x7000));
        assert_eq!(cpu.segments[segment::CS].selector, 0x1B);
    });
}

#[test]
fn popf_changes_only_what_its_privilege_may() {
    let (mut cpu, bus) = protected();
    bus.put32(0x6FFC, u32::MAX);
    enter_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        cpu.general[4] = 0x6FFC;
        run(cpu, &[0x9D]).unwrap();
        let fixed = flag::IF | flag::IOPL | flag::VM | flag::RF | flag::VIF | flag::VIP;
        assert_eq!(cpu.flags() & fixed, 0);
        assert_eq!(cpu.flags() & (flag::ID | flag::AC | flag::NT), flag::ID | flag::AC | flag::NT);
        assert_eq!(run(cpu, &[0xFA]), Err(GP), "CLI");
        assert_eq!(run(cpu, &[0xFB]), Err(GP), "STI");
        enter_ring(cpu, 0);
        cpu.general[4] = 0x6FFC;
        bus.put32(0x6FFC, u32::MAX);
        run(cpu, &[0x9D]).unwrap();
        assert_eq!(cpu.flags() & (flag::IF | flag::IOPL), flag::IF | flag::IOPL);
        run(cpu, &[0x9C]).unwrap();
        assert_eq!(bus.get32(0x6FFC) as u64, cpu.flags());
    });
}

#[test]
fn sti_opens_after_the_next_instruction_only() {
    let (mut cpu, bus) = protected();
    cpu.with_bus(&bus, |cpu| {
        run(cpu, &[0xFB]).unwrap();
        assert!(cpu.interrupt_shadow && cpu.system_flags & flag::IF != 0);
        cpu.interrupt_shadow = false;
        run(cpu, &[0xFB]).unwrap();
        assert!(!cpu.interrupt_shadow, "no shadow when IF was set already");
    });
}

#[test]
fn umip_hides_the_tables_from_ring_3() {
    let (mut cpu, bus) = protected();
    cpu.cr4 = CR4_UMIP;
    enter_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        let sgdt = [0x0F, 0x01, 0x05, 0x00, 0x60, 0x00, 0x00];
        for bytes in [&sgdt[..], &[0x0F, 0x00, 0xC0], &[0x0F, 0x00, 0xC8], &[0x0F, 0x01, 0xE0]] {
            assert_eq!(run(cpu, bytes), Err(GP), "{bytes:x?}");
        }
        cpu.cr4 = 0;
        run(cpu, &sgdt).unwrap();
        assert_eq!((bus.get16(0x6000), bus.get32(0x6002)), (0x7F, 0x1000));
        run(cpu, &[0x0F, 0x00, 0xC8]).unwrap();
        assert_eq!(cpu.general[0], u64::from(TASK));
    });
}

#[test]
fn the_adjustment_of_the_time_stamp_counter_follows_writes_to_it() {
    let (mut cpu, bus) = machine(16);
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.read_msr(0x3B), Some(0));
        let before = cpu.timestamp();
        cpu.write_msr(0x3B, 1 << 40).unwrap();
        assert!(cpu.timestamp() >= before + (1 << 40));
        cpu.write_msr(0x10, 0).unwrap();
        assert_eq!(cpu.read_msr(0x3B), Some(0_u64.wrapping_sub(bus.timestamp.get())));
        assert_eq!(cpu.read_msr(0x10A).map(|value| value & 1), Some(1), "no rogue data cache load");
        assert_eq!(cpu.write_msr(0x10A, 0), Err(GP));
    });
}

#[test]
fn msrs_check_their_values_and_unknown_ones_fault() {
    let (mut cpu, bus) = long();
    cpu.with_bus(&bus, |cpu| {
        assert_eq!(cpu.read_msr(0x1234), None);
        assert_eq!(cpu.write_msr(0x1234, 0), Err(GP));
        assert_eq!(cpu.read_msr(0x1B), Some(0xFEE0_0900));
        assert_eq!(cpu.write_msr(0xC000_0082, 0x8000_0000_0000), Err(GP));
        assert_eq!(cpu.write_msr(0x277, 2), Err(GP), "type 2 is reserved");
        assert_eq!(cpu.write_msr(0x2FF, 0xC06), Ok(()));
        assert_eq!(cpu.read_msr(0x2FF), Some(0xC06));
        for (number, value) in [(0x250, 0x0606_0606_0606_0606), (0x259, 0), (0x26F, 0x0505)] {
            cpu.write_msr(number, value).unwrap();
            assert_eq!(cpu.read_msr(number), Some(value));
        }
        cpu.write_msr(0xC000_0101, 0x1234_5678).unwrap();
        assert_eq!(cpu.segments[segment::GS].base, 0x1234_5678);
        cpu.write_msr(0xC000_0102, 0xFFFF_8000_0000_0000).unwrap();
        run(cpu, &[0x0F, 0x01, 0xF8]).unwrap();
        assert_eq!(cpu.segments[segment::GS].base, 0xFFFF_8000_0000_0000);
        cpu.write_msr(0x10, 1_000_000).unwrap();
        let now = cpu.read_msr(0x10).unwrap();
        assert!((1_000_000..1_000_100).contains(&now));
        run(cpu, &[0x0F, 0x31]).unwrap();
        assert!(cpu.edx_eax() > now);
    });
}

#[test]
fn an_old_model_has_no_new_instructions() {
    let (mut cpu, bus) = protected();
    cpu.model = Model::new(CpuModel::I486, 0, 1, 1_000_000_000);
    cpu.with_bus(&bus, |cpu| {
        for bytes in [&[0x0F, 0x31][..], &[0x0F, 0x32], &[0x0F, 0x30], &[0x0F, 0x34]] {
            assert_eq!(run(cpu, bytes), Err(UD), "{bytes:x?}");
        }
        cpu.general[0] = 1;
        run(cpu, &[0x0F, 0xA2]).unwrap();
        assert_eq!(cpu.general[0], 0x483);
        assert!(!cpu.model.offers(Feature::Pae));
        assert_eq!(cpu.load_cr4(CR4_PAE), Err(GP));
    });
}

#[test]
fn lar_lsl_verr_verw_tell_without_faulting() {
    let (mut cpu, bus) = protected();
    enter_ring(&mut cpu, 3);
    cpu.with_bus(&bus, |cpu| {
        let zf = |cpu: &Cpu| cpu.flags() & flag::ZF != 0;
        cpu.general[1] = u64::from(DATA_3);
        run(cpu, &[0x0F, 0x02, 0xC1]).unwrap(); // lar eax, ecx
        assert_eq!((cpu.general[0], zf(cpu)), (0x00CF_F200, true));
        run(cpu, &[0x0F, 0x03, 0xC1]).unwrap(); // lsl eax, ecx
        assert_eq!((cpu.general[0], zf(cpu)), (0xFFFF_FFFF, true));
        run(cpu, &[0x0F, 0x00, 0xE9]).unwrap(); // verw cx
        assert!(zf(cpu));
        cpu.general[1] = u64::from(DATA_0);
        run(cpu, &[0x0F, 0x02, 0xC1]).unwrap();
        assert!(!zf(cpu));
        run(cpu, &[0x0F, 0x00, 0xE1]).unwrap(); // verr cx
        assert!(!zf(cpu));
        cpu.general[1] = u64::from(CODE_3);
        run(cpu, &[0x0F, 0x00, 0xE1]).unwrap();
        assert!(zf(cpu));
        run(cpu, &[0x0F, 0x00, 0xE9]).unwrap();
        assert!(!zf(cpu));
        (cpu.general[0], cpu.general[1]) = (0x10, 3);
        run(cpu, &[0x63, 0xC8]).unwrap(); // arpl ax, cx
        assert_eq!((cpu.general[0], zf(cpu)), (0x13, true));
    });
}

#[test]
fn clearing_smap_for_a_moment_is_ac() {
    let (mut cpu, bus) = long();
    cpu.with_bus(&bus, |cpu| {
        cpu.load_cr4(cpu.cr4 | CR4_SMAP).unwrap();
        let fault = Err(Fault::page_fault(1));
        assert_eq!(cpu.read::<u8>(segment::DS, 0x5000), fault);
        run(cpu, &[0x0F, 0x01, 0xCB]).unwrap(); // stac
        assert_eq!(cpu.read::<u8>(segment::DS, 0x5000), Ok(0));
        run(cpu, &[0x0F, 0x01, 0xCA]).unwrap(); // clac
        assert_eq!(cpu.read::<u8>(segment::DS, 0x5000), fault);
    });
}

#[test]
fn debug_registers_have_aliases_fixed_bits_and_a_guard() {
    let (mut cpu, bus) = protected();
    cpu.with_bus(&bus, |cpu| {
        cpu.general[0] = 0xFFFF_FFFF;
        run(cpu, &[0x0F, 0x23, 0xE0]).unwrap(); // mov dr4, eax
        assert_eq!(cpu.debug[4], 0xFFFF_EFFF & (0xE00F | 0xFFFF_0FF0));
        cpu.cr4 = CR4_DE;
        assert_eq!(run(cpu, &[0x0F, 0x23, 0xE0]), Err(UD));
        cpu.general[0] = 1 << 13;
        run(cpu, &[0x0F, 0x23, 0xF8]).unwrap(); // mov dr7, eax
        assert_eq!(run(cpu, &[0x0F, 0x21, 0xC0]), Err(Fault::debug()));
        assert_eq!((cpu.debug[4] & 1 << 13, cpu.debug[5]), (1 << 13, 0x400));
    });
}

#[test]
fn a_flat_segment_is_flat() {
    let segment = flat_segment(8, 0xC09B);
    assert_eq!((segment.base, segment.limit, segment.is_big()), (0, u32::MAX, true));
}

#[test]
fn a_data_breakpoint_traps_after_the_access_and_not_beside_it() {
    let (mut cpu, bus) = protected();
    cpu.with_bus(&bus, |cpu| {
        cpu.write::<u32>(segment::DS, 0x5000, 1).unwrap(); // the page is in the TLB
        cpu.general[0] = 0x5004;
        run(cpu, &[0x0F, 0x23, 0xC8]).unwrap(); // mov dr1, eax
        cpu.general[0] = 0x00D0_0008;
        run(cpu, &[0x0F, 0x23, 0xF8]).unwrap(); // mov dr7, eax: writes of four bytes
        cpu.write::<u32>(segment::DS, 0x5000, 1).unwrap();
        cpu.read::<u32>(segment::DS, 0x5004).unwrap();
        assert_eq!(cpu.pending, None);
        cpu.write::<u8>(segment::DS, 0x5007, 1).unwrap();
        assert_eq!(cpu.pending.take().map(|event| event.vector), Some(1));
        assert_eq!(cpu.debug[4], 0xFFFF_0FF2);
        cpu.general[0] = 0x00F0_0008;
        run(cpu, &[0x0F, 0x23, 0xF8]).unwrap(); // reads too
        cpu.read::<u16>(segment::DS, 0x5003).unwrap();
        assert!(cpu.pending.is_some());
    });
}

#[test]
fn alignment_is_checked_in_ring_3_only() {
    let (mut cpu, bus) = protected();
    cpu.cr0 |= CR0_AM;
    cpu.load_flags(flag::AC | 2);
    cpu.with_bus(&bus, |cpu| {
        cpu.read::<u32>(segment::DS, 0x5001).unwrap();
        enter_ring(cpu, 3);
        assert_eq!(cpu.read::<u32>(segment::DS, 0x5001), Err(Fault::alignment_check()));
        assert_eq!(cpu.write::<u16>(segment::DS, 0x5001, 0), Err(Fault::alignment_check()));
        assert_eq!(cpu.read::<u32>(segment::DS, 0x5004), Ok(0));
        assert_eq!(cpu.read::<u8>(segment::DS, 0x5001), Ok(0));
        cpu.load_flags(2);
        assert_eq!(cpu.read::<u32>(segment::DS, 0x5001), Ok(0));
    });
}

#[test]
fn the_tsc_deadline_follows_the_guest_s_own_counter() {
    const DEADLINE: u32 = 0x6E0;
    let (mut cpu, bus) = protected();
    cpu.model = Model::new(CpuModel::X86_64V1, 0, 1, 1_000_000_000);
    bus.timestamp.set(1_000_000);
    cpu.with_bus(&bus, |cpu| {
        cpu.write_msr(0x3B, 5_000).unwrap();
        cpu.write_msr(DEADLINE, 1_006_500).unwrap();
        assert_eq!(bus.tsc_deadline.get(), 1_001_500, "as the counter before the offset");
        assert_eq!(cpu.read_msr(DEADLINE), Some(1_006_500));
        cpu.write_msr(0x3B, 5_400).unwrap();
        assert_eq!(bus.tsc_deadline.get(), 1_001_100, "sooner, since the counter was moved on");
        assert_eq!(cpu.read_msr(DEADLINE), Some(1_006_500));
        cpu.write_msr(DEADLINE, 1_000_000).unwrap();
        assert_eq!(bus.tsc_deadline.get(), 1, "past: due at once");
        cpu.write_msr(DEADLINE, 0).unwrap();
        assert_eq!((bus.tsc_deadline.get(), cpu.read_msr(DEADLINE)), (0, Some(0)));
        cpu.write_msr(0x3B, 7_u64.wrapping_neg()).unwrap();
        assert_eq!(bus.tsc_deadline.get(), 0, "still disarmed");
        cpu.write_msr(DEADLINE, u64::MAX).unwrap();
        assert_eq!(bus.tsc_deadline.get(), u64::MAX, "never, not now");
    });
}
