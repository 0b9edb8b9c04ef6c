//! Registers through the kernel and back.

use cpu::registers::{Event, EventKind, Segment, Table};
use cpu::{RunLimit, Stop};

use super::board::{guest, guest_in, start_state};
use crate::backend::{InterruptMode, Vcpu};

#[test]
fn the_whole_state_survives_the_kernel() {
    let Some(mut guest) = guest(&[0xF4]) else { return };
    // What this host's processor lacks comes from its own state.
    let mut wanted = guest.state();
    wanted.general = std::array::from_fn(|i| 0x0123_4567_89AB_CDEF_u64.rotate_left(4 * i as u32));
    (wanted.rip, wanted.rflags) = (0x1234, 0x8D7);
    wanted.segments[3] = Segment::real(0x1234);
    wanted.gdtr = Table { base: 0x5000, limit: 0x7F };
    wanted.idtr = Table { base: 0x6000, limit: 0x3FF };
    (wanted.cr2, wanted.cr3) = (0xDEAD_B000, 0x7000);
    wanted.debug = [0x1111, 0x2222, 0x3333, 0x4444, 0xFFFF_0FF1, 0x0000_0402];
    (wanted.msrs.sysenter_cs, wanted.msrs.sysenter_esp, wanted.msrs.sysenter_eip) = (8, 0x9000, 0xA000);
    (wanted.msrs.star, wanted.msrs.lstar, wanted.msrs.fmask) =
        (0x10_0008 << 32, 0xFFFF_8000_0000_1000, 0x200);
    wanted.msrs.kernel_gs_base = 0xFFFF_8000_0000_2000;
    wanted.msrs.pat = 0x0007_0106_0007_0106;
    wanted.msrs.tsc_offset = 0u64.wrapping_sub(1_000_000);
    wanted.msrs.mtrr_default = 0x806;
    wanted.msrs.mtrr_fixed[0] = 0x0606_0606_0606_0606;
    wanted.fpu.control = 0x27F;
    wanted.fpu.tags = 0x80;
    wanted.fpu.stack[0] = [1, 2, 3, 4, 5, 6, 7, 0x80, 0xFF, 0x3F];
    wanted.fpu.mxcsr = 0x1FA0;
    wanted.fpu.ymm[5][0] = 0x5555_AAAA;
    wanted.fpu.ymm[5][1] = 0x6666_BBBB;
    guest.vcpu.set_registers(&wanted).unwrap();
    let mut got = guest.state();
    if !guest.vcpu.has_exact_tsc_offset() {
        got.msrs.tsc_offset = wanted.msrs.tsc_offset;
    }
    assert_eq!(got, wanted);
}

#[test]
fn a_pending_exception_is_delivered_first() {
    let Some(mut guest) = guest(&[0xF4]) else { return };
    guest.handler(6, 0x500, &[0xB3, 0x66, 0xF4]); // mov bl, 0x66; hlt
    let mut state = start_state();
    state.pending = Some(Event { vector: 6, error_code: None, kind: EventKind::Exception });
    guest.vcpu.set_registers(&state).unwrap();
    assert_eq!(guest.state().pending, state.pending);
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.state().general[3] & 0xFF, 0x66);
}

#[test]
fn a_halted_cpu_is_still_halted_after_it_was_restored() {
    let Some(mut guest) = guest(&[0xF4, 0xF4]) else { return };
    assert_eq!(guest.run(), Stop::Halted);
    let saved = guest.state();
    assert!(saved.halted);
    guest.vcpu.set_registers(&start_state()).unwrap();
    assert!(!guest.state().halted);
    guest.vcpu.set_registers(&saved).unwrap();
    assert_eq!(guest.run(), Stop::Halted);
    assert_eq!(guest.state().rip, 0x1001);
}

#[test]
fn the_kernels_chips_are_saved_loaded_and_reset() {
    // mov al, 0x42; out 0x21, al (mask of the first 8259A); jmp $
    let Some(mut guest) = guest_in(InterruptMode::Kernel, &[0xB0, 0x42, 0xE6, 0x21, 0xEB, 0xFE]) else {
        return;
    };
    let fresh = guest.vm.save_chips().unwrap();
    let beside = guest.vcpu.save_beside().unwrap();
    let kicker = guest.vcpu.kicker();
    let later = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        kicker.kick();
    });
    assert_eq!(guest.run(), Stop::Kicked);
    later.join().unwrap();
    let masked = guest.vm.save_chips().unwrap();
    assert_ne!(masked, fresh);
    guest.vm.reset_chips().unwrap();
    assert_eq!(guest.vm.save_chips().unwrap()[..520], fresh[..520], "the first 8259A");
    guest.vm.load_chips(&masked).unwrap();
    assert_eq!(guest.vm.save_chips().unwrap()[..520], masked[..520]);
    guest.vcpu.reset(&start_state()).unwrap();
    assert_eq!(guest.vcpu.save_beside().unwrap(), beside);
    guest.vcpu.load_beside(&beside).unwrap();
    assert!(guest.vcpu.load_beside(&[1, 2, 3]).is_err());
    assert!(guest.vm.load_chips(&[]).is_err());
}

#[test]
fn a_later_cpu_waits_for_its_startup_and_can_be_kicked_out_of_it() {
    let Some(guest) = guest_in(InterruptMode::Kernel, &[0xF4]) else { return };
    let mut second = guest.vm.create_vcpu(1, 2, Default::default()).unwrap();
    second.reset(&start_state()).unwrap();
    let kicker = second.kicker();
    let later = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        kicker.kick();
    });
    assert_eq!(second.run(&*guest.board, RunLimit::NONE).unwrap(), Stop::Kicked);
    later.join().unwrap();
    assert_eq!(second.registers().unwrap().rip, 0x1000, "nothing was executed");
}
