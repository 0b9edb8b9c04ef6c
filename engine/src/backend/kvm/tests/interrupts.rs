//! Interrupts, windows, NMIs, halts and shutdowns.

use cpu::registers::{Segment, Table, segment};
use cpu::{RunLimit, Signal, Stop};

use super::board::{guest, guest_in, start_state};
use crate::backend::{InterruptMode, Vcpu};

/// mov al, n; out 0x10, al; iret
fn reports(n: u8) -> [u8; 5] {
    [0xB0, n, 0xE6, 0x10, 0xCF]
}

#[test]
fn an_interrupt_waits_until_the_guest_can_take_it() {
    let code = [
        0xFA, // cli
        0xB0, 0x01, 0xE6, 0x10, // mov al, 1; out 0x10, al
        0xFB, // sti
        0xB9, 0x00, 0x20, // mov cx, 0x2000: still in STI's shadow
        0xE2, 0xFE, // loop $ (a host that interprets looks only now and then)
        0xB0, 0x02, 0xE6, 0x10, // mov al, 2; out 0x10, al
        0xF4, // hlt
    ];
    let Some(mut guest) = guest(&code) else { return };
    guest.handler(0x20, 0x500, &reports(0xAA));
    guest.board.raise(0x20);
    assert_eq!(guest.run(), Stop::Halted);
    let values: Vec<u64> = guest.board.seen().iter().map(|s| s.3).collect();
    assert_eq!(values, vec![1, 0xAA, 2]);
}

#[test]
fn two_interrupts_come_one_after_the_other() {
    // sti; again: hlt; jmp again
    let Some(mut guest) = guest(&[0xFB, 0xF4, 0xEB, 0xFD]) else { return };
    guest.handler(0x20, 0x500, &reports(0x20));
    guest.handler(0x21, 0x520, &reports(0x21));
    guest.board.raise(0x20);
    guest.board.raise(0x21);
    assert_eq!(guest.run(), Stop::Halted);
    let values: Vec<u64> = guest.board.seen().iter().map(|s| s.3).collect();
    assert_eq!(values, vec![0x20, 0x21]);
}

#[test]
fn halt_ends_by_an_interrupt_only_with_interrupts_enabled() {
    let Some(mut guest) = guest(&[0xFA, 0xF4, 0xF4]) else { return }; // cli; hlt; hlt
    guest.handler(0x20, 0x500, &reports(0x20));
    guest.handler(2, 0x540, &reports(0x02));
    assert_eq!(guest.run(), Stop::Halted);
    guest.board.raise(0x20);
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.state().rip, 0x1002);
    assert!(guest.board.seen().is_empty());
    guest.board.pins.raise(Signal::Nmi);
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.board.seen(), vec![("out", 0x10, 1, 2)]);
    assert_eq!(guest.state().rip, 0x1003);
}

#[test]
fn sti_and_halt_wake_up_for_an_interrupt() {
    let Some(mut guest) = guest(&[0xFB, 0xF4, 0xB0, 0x07, 0xE6, 0x10, 0xFA, 0xF4]) else { return };
    guest.handler(0x30, 0x500, &reports(0x30));
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.run(), Stop::Halted, "nothing has happened");
    guest.board.raise(0x30);
    assert_eq!(guest.run(), Stop::Halted);
    let values: Vec<u64> = guest.board.seen().iter().map(|s| s.3).collect();
    assert_eq!(values, vec![0x30, 7]);
}

#[test]
fn a_request_that_went_away_is_no_interrupt() {
    let Some(mut guest) = guest(&[0xFB, 0x90, 0x90, 0xF4]) else { return };
    guest.board.pins.raise(Signal::Interrupt); // and no vector
    assert_eq!(guest.run(), Stop::Halted);
    assert!(guest.board.seen().is_empty());
    assert_eq!(guest.state().rip, 0x1004);
}

#[test]
fn a_triple_fault_tells_where() {
    let Some(mut guest) = guest(&[0x90, 0x0F, 0x0B]) else { return }; // nop; ud2
    let mut state = start_state();
    state.cr0 |= 1;
    let flat = |selector, attributes| Segment { selector, base: 0, limit: !0, attributes, unusable: false };
    state.segments = [flat(0x10, 0xC093); 6];
    state.segments[segment::CS] = flat(8, 0xC09B);
    state.idtr = Table { base: 0, limit: 0 };
    guest.vcpu.set_registers(&state).unwrap();
    let Stop::Shutdown(chain) = guest.run() else { panic!("no shutdown") };
    let registers = chain.last().unwrap().registers.as_ref().unwrap();
    assert_eq!((registers.rip, registers.idtr.limit), (0x1001, 0));
}

#[test]
fn the_task_priority_goes_in_and_out() {
    // The priority CR8 shows is the bus's: 64-bit code is needed to write it, so only its way in is seen.
    let Some(mut guest) = guest(&[0xE6, 0x10, 0xF4]) else { return };
    guest.board.priority.store(9, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.state().cr8, 9);
}

#[test]
fn with_a_split_controller_the_pic_still_reaches_the_guest() {
    let code = [0xFB, 0xE6, 0x20, 0xEB, 0xFC]; // sti; again: out 0x20, al; jmp again
    let Some(mut guest) = guest_in(InterruptMode::Split, &code) else { return };
    guest.handler(0x20, 0x500, &[0xB0, 0x55, 0xE6, 0x10, 0xEB, 0xFE]);
    guest.board.raise(0x20);
    let kicker = guest.vcpu.kicker();
    let board = guest.board.clone();
    let watcher = std::thread::spawn(move || {
        for _ in 0..5000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            if board.seen.lock().contains(&("out", 0x10, 1, 0x55)) {
                break;
            }
        }
        kicker.kick();
    });
    assert_eq!(guest.vcpu.run(&*guest.board, RunLimit::NONE).unwrap(), Stop::Kicked);
    watcher.join().unwrap();
    assert!(guest.board.seen().contains(&("out", 0x10, 1, 0x55)));
}

#[test]
fn with_the_kernels_controllers_a_line_reaches_the_guest() {
    let code = [
        0xB0, 0x11, 0xE6, 0x20, // master: ICW1
        0xB0, 0x20, 0xE6, 0x21, // vectors from 0x20
        0xB0, 0x04, 0xE6, 0x21, // the slave is at input 2
        0xB0, 0x01, 0xE6, 0x21, // 8086 mode
        0xB0, 0xEF, 0xE6, 0x21, // only line 4
        0xFB, // sti
        0xE6, 0x80, // out 0x80, al: ready
        0xF4, 0xEB, 0xFD, // again: hlt; jmp again
    ];
    let Some(mut guest) = guest_in(InterruptMode::Kernel, &code) else { return };
    guest.handler(0x24, 0x500, &[0xB0, 0x66, 0xE6, 0x10, 0xEB, 0xFE]);
    let lines = guest.vm.lines().unwrap();
    let kicker = guest.vcpu.kicker();
    let board = guest.board.clone();
    let device = std::thread::spawn(move || {
        for _ in 0..5000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            let seen = board.seen.lock().clone();
            if seen.iter().any(|s| s.1 == 0x80) {
                lines.set(4, true);
            }
            if seen.contains(&("out", 0x10, 1, 0x66)) {
                break;
            }
        }
        kicker.kick();
    });
    assert_eq!(guest.run(), Stop::Kicked);
    device.join().unwrap();
    assert!(guest.board.seen().contains(&("out", 0x10, 1, 0x66)));
}

#[test]
fn no_interrupt_of_the_pic_is_lost_with_a_split_controller() {
    const EACH: u16 = 300;
    let code = [0xFB, 0xEB, 0xFE]; // sti; jmp $
    let Some(mut guest) = guest_in(InterruptMode::Split, &code) else { return };
    let counts = |at: u8| [0xFF, 0x06, at, 0x06, 0xCF]; // inc word [0x0600 + at]; iret
    guest.handler(0x20, 0x500, &counts(0));
    guest.handler(0x21, 0x520, &counts(2));
    (0..EACH).for_each(|_| [0x20, 0x21].into_iter().for_each(|vector| guest.board.raise(vector)));
    let counted = |board: &super::board::Board| {
        let mut words = [0; 4];
        board.memory.read_at(0x600, &mut words);
        [u16::from_le_bytes([words[0], words[1]]), u16::from_le_bytes([words[2], words[3]])]
    };
    let kicker = guest.vcpu.kicker();
    let board = guest.board.clone();
    let pesterer = std::thread::spawn(move || {
        // Each nudge may come between an acknowledge and the entry that delivers its vector.
        for _ in 0..20_000 {
            kicker.nudge();
            std::thread::yield_now();
        }
        // Then the guest is left alone until it has taken all; ten seconds are patience, not measure.
        for _ in 0..10_000 {
            if counted(&board) == [EACH, EACH] {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        kicker.kick();
    });
    assert_eq!(guest.run(), Stop::Kicked);
    pesterer.join().unwrap();
    assert_eq!(counted(&guest.board), [EACH, EACH]);
}
