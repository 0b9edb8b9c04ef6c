//! The complete state of a vCPU, read from and written to the kernel.

use cpu::{Registers, Signal};
use kvm_bindings::*;
use kvm_ioctls::VcpuFd;

use super::{KvmVcpu, chips, fpu, ioctl, msr, registers};
use crate::backend::{VcpuError, VcpuErrorKind};

/// IA32_APIC_BASE: this is the bootstrap processor.
const BOOTSTRAP: u64 = 1 << 8;

impl KvmVcpu {
    pub(super) fn read_state(&mut self) -> Result<Registers, VcpuError> {
        let mut state = Registers::reset();
        registers::general_from_kvm(&self.fd.get_regs().map_err(registers_error)?, &mut state);
        registers::system_from_kvm(&self.fd.get_sregs().map_err(registers_error)?, &mut state);
        state.debug = registers::debug_from_kvm(&self.fd.get_debug_regs().map_err(registers_error)?);
        state.fpu = Box::new(fpu::from_kvm(&self.fd.get_xsave().map_err(registers_error)?));
        if self.vm.features().xcrs {
            let xcrs = self.fd.get_xcrs().map_err(registers_error)?;
            let count = (xcrs.nr_xcrs as usize).min(xcrs.xcrs.len());
            state.xcr0 = xcrs.xcrs[..count].iter().find(|x| x.xcr == 0).map_or(1, |x| x.value);
        }
        msr::read_all(&self.fd, &mut state.msrs)?;
        state.msrs.tsc_offset = self.tsc_offset();
        let mut events = self.fd.get_vcpu_events().map_err(registers_error)?;
        if events.nmi.pending != 0 {
            // An NMI the kernel holds goes back to the pin, where it is part of nobody's registers.
            events.nmi.pending = 0;
            events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
            self.fd.set_vcpu_events(&events).map_err(registers_error)?;
            self.pins.raise(Signal::Nmi);
        }
        registers::events_from_kvm(&events, &mut state);
        if self.has_kernel_apic() {
            let mp_state = self.fd.get_mp_state().map_err(registers_error)?.mp_state;
            state.halted = mp_state == KVM_MP_STATE_HALTED;
        } else {
            state.halted = self.halted;
            state.msrs.apic_base = self.apic_base;
        }
        Ok(state)
    }

    pub(super) fn write_state(&mut self, state: &Registers) -> Result<(), VcpuError> {
        let mut sregs = registers::system_to_kvm(state);
        if self.has_kernel_apic() {
            let mp_state = self.fd.get_mp_state().map_err(registers_error)?.mp_state;
            let wanted = match (state.halted, mp_state) {
                (true, KVM_MP_STATE_RUNNABLE) => KVM_MP_STATE_HALTED,
                (false, KVM_MP_STATE_HALTED) => KVM_MP_STATE_RUNNABLE,
                (_, other) => other, // a CPU that waits for its start-up message goes on waiting
            };
            self.set_run_state(wanted)?;
        } else {
            sregs.apic_base = registers::kernel_apic_base(sregs.apic_base);
            self.halted = state.halted;
            self.apic_base = state.msrs.apic_base;
        }
        if self.index == 0 {
            sregs.apic_base |= BOOTSTRAP;
        }
        self.fd.set_sregs(&sregs).map_err(registers_error)?;
        self.fd.set_regs(&registers::general_to_kvm(state)).map_err(registers_error)?;
        if self.vm.features().xcrs {
            let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
            xcrs.xcrs[0] = kvm_xcr { xcr: 0, value: state.xcr0 | 1, ..Default::default() };
            self.fd.set_xcrs(&xcrs).map_err(registers_error)?;
        }
        let mut area = self.fd.get_xsave().map_err(registers_error)?;
        fpu::to_kvm(&state.fpu, self.avx, &mut area);
        // SAFETY: no feature that enlarges the area beyond this structure is ever asked for.
        unsafe { self.fd.set_xsave(&area) }.map_err(registers_error)?;
        msr::write_all(&self.fd, &state.msrs)?;
        self.set_tsc_offset(state.msrs.tsc_offset)?;
        self.fd.set_debug_regs(&registers::debug_to_kvm(state)).map_err(registers_error)?;
        self.fd.set_vcpu_events(&registers::events_to_kvm(state)).map_err(registers_error)?;
        self.run_area_is_current = false;
        self.debugging.stopped_at = None;
        Ok(())
    }

    pub(super) fn reset_state(&mut self, state: &Registers) -> Result<(), VcpuError> {
        self.write_state(state)?;
        self.deadline = 0;
        self.waiting_vector = None;
        if let Some(lapic) = &self.lapic_at_reset {
            self.fd.set_lapic(lapic).map_err(registers_error)?;
            self.set_run_state(match self.index {
                0 => KVM_MP_STATE_RUNNABLE,
                _ => KVM_MP_STATE_UNINITIALIZED, // waits for a start-up message
            })?;
        }
        self.freeze_again()
    }

    pub(super) fn read_beside(&mut self) -> Result<Vec<u8>, VcpuError> {
        if !self.has_kernel_apic() {
            return Ok(self.deadline.to_le_bytes().to_vec());
        }
        let run_state = self.fd.get_mp_state().map_err(registers_error)?.mp_state;
        let lapic = self.fd.get_lapic().map_err(registers_error)?;
        Ok(chips::encode_lapic(run_state, &lapic))
    }

    pub(super) fn write_beside(&mut self, state: &[u8]) -> Result<(), VcpuError> {
        let other = || {
            let text = "the saved machine had its local APICs elsewhere: choose the backend and the \
                        interrupt mode it was saved with";
            VcpuError::new(VcpuErrorKind::Registers, text)
        };
        if self.has_kernel_apic() {
            let (run_state, lapic) = chips::decode_lapic(state).ok_or_else(other)?;
            self.fd.set_lapic(&lapic).map_err(registers_error)?;
            self.set_run_state(run_state)?;
            return self.freeze_again();
        }
        // Saved by the software CPU there is none: its deadline is the local APIC's.
        self.deadline = match state {
            [] => 0,
            _ => u64::from_le_bytes(state.try_into().map_err(|_| other())?),
        };
        Ok(())
    }
    fn set_run_state(&self, mp_state: u32) -> Result<(), VcpuError> {
        self.fd.set_mp_state(kvm_mp_state { mp_state }).map_err(registers_error)
    }
    pub(super) fn tsc_offset(&self) -> u64 {
        if self.tsc_offset
            && let Ok(offset) = ioctl::tsc_offset(&self.fd)
        {
            return offset;
        }
        // Without the exact value: the difference of two readings, the guest's and the host's.
        let host = host_timestamp();
        msr::read(&self.fd, msr::TSC).map_or(0, |guest| guest.wrapping_sub(host))
    }

    pub(super) fn set_tsc_offset(&self, offset: u64) -> Result<(), VcpuError> {
        if self.tsc_offset && ioctl::set_tsc_offset(&self.fd, offset).is_ok() {
            return Ok(());
        }
        match msr::write(&self.fd, msr::TSC, host_timestamp().wrapping_add(offset)) {
            true => Ok(()),
            false => {
                let text = "KVM does not set the time-stamp counter";
                Err(VcpuError::new(VcpuErrorKind::Registers, text))
            }
        }
    }
}

/// A host may have the request and yet give every guest its own time-stamps.
pub(super) fn keeps_tsc_offset(vcpu: &VcpuFd) -> bool {
    let Ok(before) = ioctl::tsc_offset(vcpu) else { return false };
    let other = before.wrapping_sub(1 << 20);
    let kept =
        ioctl::set_tsc_offset(vcpu, other).is_ok() && ioctl::tsc_offset(vcpu).is_ok_and(|o| o == other);
    ioctl::set_tsc_offset(vcpu, before).is_ok() && kept
}

pub(super) fn host_timestamp() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}
/// The host's reason why registers could not be had or set.
pub(super) fn registers_error(error: kvm_ioctls::Error) -> VcpuError {
    VcpuError::caused(VcpuErrorKind::Registers, "KVM does not give or take the CPU's registers", error)
}
