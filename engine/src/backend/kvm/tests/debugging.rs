//! Steps and breakpoints.

use cpu::Stop;

use super::board::{Guest, guest};
use crate::backend::{Vcpu, VcpuErrorKind};

fn debuggable(code: &[u8]) -> Option<Guest> {
    let guest = guest(code)?;
    if !guest.vm.features().guest_debug {
        println!("skipped: this host's KVM has no guest debugging");
        return None;
    }
    Some(guest)
}

#[test]
fn a_step_is_one_instruction() {
    // mov ax, 5; inc ax; out 0x10, al; in al, 0x11; hlt
    let Some(mut guest) = debuggable(&[0xB8, 5, 0, 0x40, 0xE6, 0x10, 0xE4, 0x11, 0xF4]) else { return };
    for rip in [0x1003, 0x1004, 0x1006, 0x1008] {
        assert_eq!(guest.step(), Stop::Step);
        assert_eq!(guest.state().rip, rip);
    }
    assert_eq!(guest.board.seen()[0], ("out", 0x10, 1, 6));
    assert_eq!(guest.step(), Stop::Halted);
    assert_eq!(guest.state().rflags & 0x100, 0, "the stepping flag is not the guest's");
}

#[test]
fn a_step_delivers_a_due_interrupt_to_its_handler() {
    // sti; nop; nop; nop; hlt
    let Some(mut guest) = debuggable(&[0xFB, 0x90, 0x90, 0x90, 0xF4]) else { return };
    guest.handler(0x20, 0x500, &[0x90, 0xCF]); // nop; iret
    for _ in 0..2 {
        assert_eq!(guest.step(), Stop::Step);
    }
    guest.board.raise(0x20);
    assert_eq!(guest.step(), Stop::Step);
    assert_eq!(guest.state().rip, 0x500);
    let mut flags = [0; 2];
    guest.board.memory.read_at(0x7FFE, &mut flags);
    assert_eq!(u16::from_le_bytes(flags) & 0x300, 0x200, "pushed: IF, and no TF");
    assert_eq!(guest.step(), Stop::Step);
    assert_eq!(guest.step(), Stop::Step);
    assert_eq!(guest.state().rip, 0x1002);
}

#[test]
fn breakpoints_stop_before_their_instruction_and_are_passed() {
    // again: inc ax; inc bx; jmp again
    let Some(mut guest) = debuggable(&[0x40, 0x43, 0xEB, 0xFC]) else { return };
    guest.vcpu.set_breakpoints(&[0x1001]).unwrap();
    for round in 1..4 {
        assert_eq!(guest.run(), Stop::Breakpoint(0x1001));
        let state = guest.state();
        assert_eq!((state.general[0], state.general[3], state.rip), (round, round - 1, 0x1001));
    }
    guest.vcpu.set_breakpoints(&[0x1001, 0x1002]).unwrap();
    assert_eq!(guest.run(), Stop::Breakpoint(0x1002));
    guest.vcpu.set_breakpoints(&[]).unwrap();
    guest.vcpu.kicker().kick();
    assert_eq!(guest.run(), Stop::Kicked);
}

#[test]
fn a_fifth_breakpoint_is_refused() {
    let Some(mut guest) = debuggable(&[0xF4]) else { return };
    let error = guest.vcpu.set_breakpoints(&[1, 2, 3, 4, 5]).unwrap_err();
    assert_eq!(error.kind, VcpuErrorKind::Unsupported);
}
