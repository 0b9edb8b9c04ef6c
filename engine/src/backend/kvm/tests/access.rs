//! Ports, device memory, ROM writes and MSRs reach the bus with the guest's widths and values.

use cpu::Stop;
use hardware::memory::Mapping;

use super::board::guest;

const RAX: usize = 0;

#[test]
fn ports_of_every_width() {
    let code = [
        0xB8, 0x34, 0x12, // mov ax, 0x1234
        0xE6, 0x42, // out 0x42, al
        0xE7, 0x44, // out 0x44, ax
        0xBA, 0x00, 0xC0, // mov dx, 0xC000
        0x66, 0xEF, // out dx, eax
        0x66, 0xED, // in eax, dx
        0xF4, // hlt
    ];
    let Some(mut guest) = guest(&code) else { return };
    assert_eq!(guest.run(), Stop::Halted);
    let expected = vec![
        ("out", 0x42, 1, 0x34),
        ("out", 0x44, 2, 0x1234),
        ("out", 0xC000, 4, 0x1234),
        ("in", 0xC000, 4, 0xA0B0_C0D3),
    ];
    assert_eq!(guest.board.seen(), expected);
    let state = guest.state();
    assert_eq!(state.general[RAX] as u32, 0xA0B0_C0D3);
    assert!(state.halted);
    assert_eq!(state.rip, 0x1000 + code.len() as u64);
}

#[test]
fn a_string_of_port_accesses() {
    let code = [
        0xBE, 0x00, 0x20, // mov si, 0x2000
        0xB9, 0x04, 0x00, // mov cx, 4
        0xBA, 0x70, 0x01, // mov dx, 0x170
        0xFC, // cld
        0xF3, 0x6F, // rep outsw
        0xBF, 0x00, 0x30, // mov di, 0x3000
        0xB9, 0x03, 0x00, // mov cx, 3
        0xF3, 0x6C, // rep insb
        0xF4, // hlt
    ];
    let Some(mut guest) = guest(&code) else { return };
    guest.board.memory.write_at(0x2000, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(guest.run(), Stop::Halted);
    let seen = guest.board.seen();
    let out: Vec<_> = seen.iter().filter(|s| s.0 == "out").copied().collect();
    let words = [0x0201, 0x0403, 0x0605, 0x0807];
    assert_eq!(out, words.map(|w| ("out", 0x170, 2, w)).to_vec());
    let read: Vec<u64> = seen.iter().filter(|s| s.0 == "in").map(|s| s.3).collect();
    let stored: Vec<u64> = (0..3).map(|i| u64::from(guest.byte(0x3000 + i))).collect();
    assert_eq!(stored, read[..3].to_vec());
}

#[test]
fn device_memory_is_read_and_written() {
    // DS = 0xFFFF is above the megabyte there is: 0xFFFF0 + 0x1000 = 0x100FF0.
    let code = [
        0xB8, 0xFF, 0xFF, 0x8E, 0xD8, // mov ax, 0xFFFF; mov ds, ax
        0xC6, 0x06, 0x00, 0x10, 0x5A, // mov byte [0x1000], 0x5A
        0x66, 0xA1, 0x04, 0x10, // mov eax, [0x1004]
        0xF4, // hlt
    ];
    let Some(mut guest) = guest(&code) else { return };
    assert_eq!(guest.run(), Stop::Halted);
    let value = (0x5566_7788 ^ 0x10_0FF4) & 0xFFFF_FFFF;
    assert_eq!(guest.board.seen(), vec![("write", 0x10_0FF0, 1, 0x5A), ("read", 0x10_0FF4, 4, value)]);
    assert_eq!(guest.state().general[RAX], value);
}

#[test]
fn a_rom_runs_and_writes_to_it_reach_the_bus() {
    let code = [0xEA, 0x00, 0x00, 0x00, 0xF0]; // jmp 0xF000:0
    let Some(mut guest) = guest(&code) else { return };
    let rom = guest.board.memory.allot(0x1000);
    // mov ax, 0xF000; mov ds, ax; mov word [0x10], 0xBEEF; mov bx, [0x10]; hlt
    let in_rom = [0xB8, 0, 0xF0, 0x8E, 0xD8, 0xC7, 0x06, 0x10, 0, 0xEF, 0xBE, 0x8B, 0x1E, 0x10, 0, 0xF4];
    guest.board.memory.write_at(rom, &in_rom);
    guest.board.memory.write_at(rom + 0x10, &[0x77, 0x66]);
    let layer = guest.board.memory.layer();
    layer.set(vec![Mapping::rom(0xF_0000, 0xF_1000, rom)]);
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.board.seen(), vec![("write", 0xF_0010, 2, 0xBEEF)]);
    assert_eq!(guest.state().general[3] & 0xFFFF, 0x6677);
}

#[test]
fn shadow_ram_being_filled_reads_rom_and_writes_ram() {
    // mov ax, 0xE000; mov ds, ax; mov al, [0]; mov [0], al; hlt
    let code = [0xB8, 0, 0xE0, 0x8E, 0xD8, 0xA0, 0, 0, 0xA2, 0, 0, 0xF4];
    let Some(mut guest) = guest(&code) else { return };
    let rom = guest.board.memory.allot(0x1000);
    guest.board.memory.write_at(rom, &[0x99]);
    let filling = Mapping { start: 0xE_0000, end: 0xE_1000, read: Some(rom), write: Some(0xE_0000) };
    guest.board.memory.layer().set(vec![filling]);
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.board.seen(), vec![("write", 0xE_0000, 1, 0x99)]);
}

#[test]
fn apic_registers_are_ours() {
    let code = [
        0x66, 0xB9, 0x1B, 0, 0, 0, // mov ecx, 0x1B
        0x0F, 0x32, // rdmsr
        0x66, 0xB9, 0x08, 0x08, 0, 0, // mov ecx, 0x808
        0x66, 0xB8, 0x20, 0, 0, 0, // mov eax, 0x20
        0x66, 0x31, 0xD2, // xor edx, edx
        0x0F, 0x30, // wrmsr
        0x66, 0xB9, 0xE0, 0x06, 0, 0, // mov ecx, 0x6E0
        0x66, 0x31, 0xC0, // xor eax, eax
        0x0F, 0x30, // wrmsr (disarm)
        0x66, 0xB9, 0xFF, 0x08, 0, 0, // mov ecx, 0x8FF
        0x0F, 0x30, // wrmsr: refused, #GP
        0xF4, // hlt (not reached)
    ];
    let Some(mut guest) = guest(&code) else { return };
    if !guest.vm.features().msr_exits {
        println!("skipped: this host's KVM does not leave MSRs to us");
        return;
    }
    guest.handler(13, 0x500, &[0xB3, 0x13, 0xF4]); // mov bl, 0x13; hlt
    guest.board.apic_msrs.lock().push((0x1B, 0xFEE0_0900));
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.state().general[3] & 0xFF, 0x13, "the refused write raised #GP");
    let written = guest.board.apic_msrs.lock()[1..].to_vec();
    assert_eq!(written, vec![(0x808, 0x20), (0x6E0, 0), (0x8FF, 0)]);
}

#[test]
fn the_speed_test_ends_with_a_choice() {
    let Some(_host) = super::board::host() else { return };
    let choice = crate::backend::kvm::speed::choose(crate::backend::Backend::Auto, true).unwrap();
    println!("{choice:?}");
    assert!(choice.kvm_instructions_per_second.unwrap() > 0);
    assert_ne!(choice.backend, crate::backend::Backend::Auto);
}
