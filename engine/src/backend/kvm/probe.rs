//! Whether the host's KVM stops at data breakpoints: tried once, in a throw-away machine. One that interprets may
//! take them and never stop.

use std::sync::OnceLock;

use cpu::registers::{Registers, Segment, segment};
use cpu::{RunLimit, Stop};
use hardware::Memory;

use super::debug::DataSlot;
use super::speed::Nothing;
use super::{Host, KvmVm};
use crate::backend::{InterruptMode, Vcpu};

/// Whether it does.
pub fn stops_at_data() -> bool {
    static STOPS: OnceLock<bool> = OnceLock::new();
    *STOPS.get_or_init(|| matches!(store(), Some(Stop::Noticed(_))))
}

/// What a store to watched memory ends with; `None` where that cannot be tried.
fn store() -> Option<Stop> {
    const CODE: u64 = 0x1000;
    const WATCHED: u64 = 0x500;
    let memory = Memory::new(0x1_0000, 0).ok()?;
    memory.write_at(CODE, &[0xA3, 0x00, 0x05, 0xF4]); // mov [0x500], ax; hlt
    let vm = KvmVm::new(&Host::open().ok()?, memory, InterruptMode::Glass).ok()?;
    let mut vcpu = vm.create_vcpu(0, 1, Default::default()).ok()?;
    let mut state = Registers::reset();
    state.segments[segment::CS] = Segment { attributes: 0x9B, ..Segment::real(0) };
    state.rip = CODE;
    vcpu.set_registers(&state).ok()?;
    vcpu.debugging.data = vec![DataSlot { watch: 0, address: WATCHED, bytes: 2, reads: false }];
    vcpu.run(&Nothing, RunLimit::NONE).ok()
}
