//! The memory map changes under a running guest.

use std::time::Duration;

use cpu::{RunLimit, Stop};
use hardware::memory::Mapping;

use super::board::{Guest, guest};
use crate::backend::Vcpu;

#[test]
fn a_change_while_the_guest_runs_takes_it_out_and_lets_it_go_on() {
    // mov ax, 0xD000; mov ds, ax; again: mov al, [0]; cmp al, 0x5A; jne again; hlt
    let code = [0xB8, 0, 0xD0, 0x8E, 0xD8, 0xA0, 0, 0, 0x3C, 0x5A, 0x75, 0xF9, 0xF4];
    let Some(Guest { board, mut vcpu, vm }) = guest(&code) else { return };
    let rom = board.memory.allot(0x1000);
    board.memory.write_at(rom, &[0x5A]);
    let layer = board.memory.layer();
    let changes = std::thread::spawn(move || {
        // The code's own slot is not touched, but the guest reads the window all the time.
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
            layer.set(vec![Mapping::rom(0xD_8000, 0xD_9000, rom)]);
            layer.set(Vec::new());
        }
        layer.set(vec![Mapping::rom(0xD_0000, 0xD_1000, rom)]);
    });
    assert_eq!(vcpu.run(&*board, RunLimit::NONE).unwrap(), Stop::Halted);
    changes.join().unwrap();
    assert_eq!(vcpu.registers().unwrap().general[0] & 0xFF, 0x5A);
    drop(vm);
}

#[test]
fn code_that_is_remapped_while_it_runs_never_fails() {
    let Some(Guest { board, mut vcpu, vm }) = guest(&[0xEA, 0, 0, 0, 0xC0]) else { return }; // jmp 0xC000:0
    board.memory.write_at(0xC_0000, &[0xEB, 0xFE]); // jmp $
    let layer = board.memory.layer();
    let kicker = vcpu.kicker();
    let changes = std::thread::spawn(move || {
        for round in 0..30u64 {
            std::thread::sleep(Duration::from_millis(1));
            // Cuts the slot the guest runs in, elsewhere than where it runs.
            layer.set(vec![Mapping::hole(0xC_8000 + 0x1000 * (round % 4), 0xD_0000)]);
        }
        kicker.kick();
    });
    assert_eq!(vcpu.run(&*board, RunLimit::NONE).unwrap(), Stop::Kicked);
    changes.join().unwrap();
    assert_eq!(vcpu.registers().unwrap().linear_rip(), 0xC_0000);
    drop(vm);
}
