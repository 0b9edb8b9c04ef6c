//! Guest time stands still while a machine is held: what the kernel counts for a guest is stopped, and goes on
//! from where it was. Our own devices stop with their clock.
//!
//! Stopped: the 8254 (`kernel`), the local APICs' timers (`kernel` and `split`), the paravirtual clock (the
//! same), and, where the host keeps the offset it is given, the time-stamp counter (all modes).
//! Left out, because the kernel does not tell how far it is: the 8254's channel 0 begins its period anew.
//! A time-stamp counter whose offset the host chooses runs on.
//! Source: Linux `Documentation/virt/kvm/api.rst` (KVM_SET_PIT2, KVM_SET_LAPIC, KVM_SET_CLOCK).

use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::{kvm_clock_data, kvm_lapic_state, kvm_pit_state2};
use kvm_ioctls::VmFd;
use parking_lot::Mutex;

use super::state::{host_timestamp, registers_error};
use super::vm::KvmVm;
use super::{KvmVcpu, msr};
use crate::backend::{InterruptMode, VcpuError};

/// The mode of a channel that was never programmed: the kernel runs no timer for it.
const NEVER_PROGRAMMED: u8 = 0xFF;
/// Offset of the local APIC timer's current count.
const CURRENT_COUNT: usize = 0x390;

/// What stands still of a machine.
#[derive(Default)]
pub struct Freezer {
    frozen: Mutex<Option<Frozen>>,
    /// Host time-stamps that passed while it stood still the last time.
    passed: AtomicU64,
}

struct Frozen {
    timestamp: u64,
    monotonic_ns: i64,
    clock: Option<kvm_clock_data>,
    pit: Option<kvm_pit_state2>,
}

impl Freezer {
    fn freeze(&self, fd: &VmFd, mode: InterruptMode) -> Result<(), kvm_ioctls::Error> {
        let mut frozen = self.frozen.lock();
        if frozen.is_some() {
            return Ok(());
        }
        let clock = if mode == InterruptMode::Glass { None } else { Some(fd.get_clock()?) };
        let pit = if mode == InterruptMode::Kernel { Some(fd.get_pit2()?) } else { None };
        if let Some(mut stopped) = pit {
            stopped.channels[0].mode = NEVER_PROGRAMMED;
            fd.set_pit2(&stopped)?;
        }
        *frozen = Some(Frozen { timestamp: host_timestamp(), monotonic_ns: monotonic_ns(), clock, pit });
        Ok(())
    }

    fn thaw(&self, fd: &VmFd) -> Result<(), kvm_ioctls::Error> {
        let Some(frozen) = self.frozen.lock().take() else {
            self.passed.store(0, Ordering::Relaxed);
            return Ok(());
        };
        self.passed.store(host_timestamp().wrapping_sub(frozen.timestamp), Ordering::Relaxed);
        if let Some(clock) = frozen.clock {
            fd.set_clock(&kvm_clock_data { clock: clock.clock, ..Default::default() })?;
        }
        if let Some(mut pit) = frozen.pit {
            let passed_ns = monotonic_ns() - frozen.monotonic_ns;
            for channel in &mut pit.channels {
                channel.count_load_time = channel.count_load_time.saturating_add(passed_ns);
            }
            fd.set_pit2(&pit)?;
        }
        Ok(())
    }

    /// The host's time-stamps when it was stopped.
    pub(super) fn timestamp(&self) -> Option<u64> {
        self.frozen.lock().as_ref().map(|frozen| frozen.timestamp)
    }

    /// The 8254 as it will go on, while it stands still.
    pub(super) fn pit(&self) -> Option<kvm_pit_state2> {
        self.frozen.lock().as_ref().and_then(|frozen| frozen.pit)
    }

    /// Says whether the machine stands still; if so, it goes on with `pit`.
    pub(super) fn replace_pit(&self, pit: &kvm_pit_state2) -> bool {
        let mut frozen = self.frozen.lock();
        if let Some(frozen) = &mut *frozen {
            frozen.pit = Some(*pit);
        }
        frozen.is_some()
    }
}

impl KvmVm {
    /// Stops what the kernel counts for the machine. Its vCPUs stand still, and are frozen one by one.
    pub fn freeze(&self) -> Result<(), VcpuError> {
        self.freezer.freeze(self.fd(), self.mode()).map_err(registers_error)
    }

    /// What the guest's time-stamps are counted from: the host's, which stand still with the machine.
    pub fn timestamp(&self) -> u64 {
        self.freezer.timestamp().unwrap_or_else(host_timestamp)
    }

    /// Lets it go on. Then its vCPUs, and only then anything runs.
    pub fn thaw(&self) -> Result<(), VcpuError> {
        self.freezer.thaw(self.fd()).map_err(registers_error)
    }
}

/// What stands still of a vCPU: the kernel's local APIC timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrozenTimer {
    current_count: u32,
    tsc_deadline: u64,
}

impl KvmVcpu {
    pub(super) fn freeze_time(&mut self) -> Result<(), VcpuError> {
        if self.frozen.is_some() {
            return Ok(());
        }
        let mut timer = FrozenTimer::default();
        if self.has_kernel_apic() {
            timer.current_count = word(&self.fd.get_lapic().map_err(registers_error)?, CURRENT_COUNT);
            timer.tsc_deadline = msr::read(&self.fd, msr::TSC_DEADLINE).unwrap_or(0);
        }
        self.frozen = Some(timer);
        Ok(())
    }

    pub(super) fn thaw_time(&mut self) -> Result<(), VcpuError> {
        let Some(timer) = self.frozen.take() else { return Ok(()) };
        let passed = self.vm.freezer.passed.load(Ordering::Relaxed);
        if self.has_exact_tsc_offset() {
            let offset = self.tsc_offset();
            self.set_tsc_offset(offset.wrapping_sub(passed))?;
        }
        if !self.has_kernel_apic() {
            return Ok(());
        }
        // Interrupts may have arrived meanwhile: all but the count is as it is now.
        if timer.current_count != 0 {
            let mut lapic = self.fd.get_lapic().map_err(registers_error)?;
            set_word(&mut lapic, CURRENT_COUNT, timer.current_count);
            self.fd.set_lapic(&lapic).map_err(registers_error)?;
        }
        if timer.tsc_deadline != 0 {
            msr::write(&self.fd, msr::TSC_DEADLINE, timer.tsc_deadline);
        }
        // A guest with the paravirtual clock is told, so that its watchdogs stay calm; others refuse.
        let _ = self.fd.kvmclock_ctrl();
        Ok(())
    }

    /// Its time was replaced (reset, restore): if it stands still, it does so as it is now.
    pub(super) fn freeze_again(&mut self) -> Result<(), VcpuError> {
        match self.frozen.take() {
            Some(_) => self.freeze_time(),
            None => Ok(()),
        }
    }
}

fn word(lapic: &kvm_lapic_state, offset: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| lapic.regs[offset + byte] as u8))
}

fn set_word(lapic: &mut kvm_lapic_state, offset: usize, value: u32) {
    for (byte, value) in lapic.regs[offset..].iter_mut().zip(value.to_le_bytes()) {
        *byte = value as std::ffi::c_char;
    }
}

/// The clock by which the kernel remembers when a counter was loaded.
fn monotonic_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the answer; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
