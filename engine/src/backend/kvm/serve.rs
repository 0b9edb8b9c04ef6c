//! What comes out of the guest: accesses go to the bus, the rest becomes a reason to stop or an error.

use cpu::registers::{Event, EventKind, segment};
use cpu::{CALL_PORT, FaultRecord, GuestBus, Notice, Stop};
use kvm_bindings::*;

use super::exit::{self, Exit};
use super::state::registers_error;
use super::{KvmVcpu, debug, msr, registers};
use crate::backend::{VcpuError, VcpuErrorKind};

impl KvmVcpu {
    /// Serves what is for the bus; gives the reason to stop if there is one.
    pub(super) fn serve(&mut self, bus: &dyn GuestBus, exit: Exit) -> Result<Option<Stop>, VcpuError> {
        match exit {
            Exit::Port { port: CALL_PORT, size: 4, count: 1, write: false, offset } => {
                self.serve_call(bus, offset)?;
            }
            Exit::Port { port, size, count, write, offset } => {
                exit::serve_port(bus, port, size, write, self.run_area(offset, size * count)?);
            }
            Exit::MemoryRead { address, size } => {
                let mut data = [0; 8];
                exit::read_memory(bus, address, &mut data[..size]);
                self.fd.get_kvm_run().__bindgen_anon_1.mmio.data = data;
            }
            Exit::MemoryWrite { address, size, data } => exit::write_memory(bus, address, &data[..size]),
            Exit::ReadMsr { index } => {
                let value = self.read_msr(bus, index);
                let run = self.fd.get_kvm_run();
                run.__bindgen_anon_1.msr.error = u8::from(value.is_none());
                run.__bindgen_anon_1.msr.data = value.unwrap_or(0);
            }
            Exit::WriteMsr { index, value } => {
                let taken = self.write_msr(bus, index, value);
                self.fd.get_kvm_run().__bindgen_anon_1.msr.error = u8::from(!taken);
            }
            // The flag is looked at, and the stop given, where the pins are.
            Exit::Halt => self.halted = true,
            Exit::InterruptWindow | Exit::PriorityLowered | Exit::Interrupted => {}
            Exit::EndOfInterrupt { vector } => self.vm.ended_interrupt(vector),
            Exit::Debug { address, dr6, .. } => return Ok(Some(self.debug_stop(address, dr6))),
            Exit::Shutdown => return Ok(Some(Stop::Shutdown(self.shutdown_chain()?))),
            Exit::SystemEvent { kind } => {
                let text = format!("the guest asked the kernel for system event {kind}");
                return Err(self.failure(bus, VcpuErrorKind::Run, &text));
            }
            Exit::EntryFailed { reason, cpu } => {
                let text = format!(
                    "the processor refused the guest's state (hardware reason {reason:#x}, host CPU {cpu})"
                );
                return Err(self.failure(bus, VcpuErrorKind::Entry, &text));
            }
            Exit::InternalError { suberror, data, instruction } => {
                self.vm.check()?;
                let text = describe_internal_error(suberror, &data, &instruction);
                return Err(self.failure(bus, VcpuErrorKind::Emulation, &text));
            }
            Exit::Unexpected { reason } => {
                let text = format!("KVM came back with a reason nobody asked for ({reason})");
                return Err(self.failure(bus, VcpuErrorKind::Run, &text));
            }
        }
        Ok(None)
    }

    /// An IN that sees the general registers, if somebody looks at them. KVM writes EAX itself from its run area when it
    /// completes the instruction; where it emulated it, it loses that write for registers that were set meanwhile
    /// (`emulate_regs_need_sync_from_vcpu` in arch/x86/kvm/x86.c), so EAX is in both places.
    fn serve_call(&mut self, bus: &dyn GuestBus, offset: usize) -> Result<(), VcpuError> {
        let mut state = self.fd.get_regs().map_err(registers_error)?;
        let mut registers = [state.rax, state.rbx, state.rcx, state.rdx].map(|value| value as u32);
        if !bus.call(&mut registers) {
            exit::serve_port(bus, CALL_PORT, 4, false, self.run_area(offset, 4)?);
            return Ok(());
        }
        let [eax, ebx, ecx, edx] = registers;
        (state.rax, state.rbx, state.rcx, state.rdx) = (eax.into(), ebx.into(), ecx.into(), edx.into());
        self.fd.set_regs(&state).map_err(registers_error)?;
        self.run_area(offset, 4)?.copy_from_slice(&eax.to_le_bytes());
        Ok(())
    }

    fn run_area(&mut self, offset: usize, bytes: usize) -> Result<&mut [u8], VcpuError> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.run_bytes) {
            return Err(VcpuError::new(VcpuErrorKind::Run, "KVM's port data lies outside its run area"));
        }
        let base = std::ptr::from_mut(self.fd.get_kvm_run()).cast::<u8>();
        // SAFETY: the run area is mapped for `run_bytes` bytes for as long as `self.fd` lives, the range
        // was checked, and the borrow of `self` keeps the kernel and others out of it.
        Ok(unsafe { std::slice::from_raw_parts_mut(base.add(offset), bytes) })
    }

    /// What was asked for is what came: not every host tells it in DR6.
    fn debug_stop(&self, address: u64, dr6: u64) -> Stop {
        if self.debugging.is_stepping() {
            return Stop::Step;
        }
        match self.debugging.data_met(address, dr6) {
            Some(slot) => {
                let write = (!slot.reads).then_some(true);
                let (watch, linear, bytes) = (slot.watch, slot.address, slot.bytes);
                Stop::Noticed(vec![Notice::Access { watch, linear, bytes, write }])
            }
            None => Stop::Breakpoint(address),
        }
    }

    fn read_msr(&mut self, bus: &dyn GuestBus, index: u32) -> Option<u64> {
        match index {
            msr::TSC_DEADLINE => match bus.read_apic_msr(index)? {
                0 => Some(0),
                _ => Some(self.deadline),
            },
            msr::APIC_BASE => bus.read_apic_msr(index),
            index if msr::X2APIC.contains(&index) => bus.read_apic_msr(index),
            _ => None,
        }
    }

    fn write_msr(&mut self, bus: &dyn GuestBus, index: u32, value: u64) -> bool {
        match index {
            msr::TSC_DEADLINE => {
                self.deadline = value;
                bus.write_apic_msr(index, self.bus_deadline(bus, value))
            }
            msr::APIC_BASE => {
                let taken = bus.write_apic_msr(index, value);
                if taken {
                    self.apic_base = value;
                    // CPUID's APIC bit follows the kernel's copy.
                    msr::write(&self.fd, index, registers::kernel_apic_base(value));
                }
                taken
            }
            index if msr::X2APIC.contains(&index) => bus.write_apic_msr(index, value),
            _ => false,
        }
    }

    /// The guest's deadline counts the host's time-stamps, our local APIC's those of the bus.
    fn bus_deadline(&self, bus: &dyn GuestBus, deadline: u64) -> u64 {
        if deadline == 0 {
            return 0; // disarmed
        }
        let guest_now = msr::read(&self.fd, msr::TSC).unwrap_or(0);
        let ahead = deadline.saturating_sub(guest_now);
        let scaled = match self.host_tsc_hz {
            0 => u128::from(ahead),
            hz => u128::from(ahead) * u128::from(bus.timestamp_hz()) / u128::from(hz),
        };
        bus.timestamp().saturating_add(u64::try_from(scaled).unwrap_or(u64::MAX)).max(1)
    }
    /// What can still be told after a triple fault: the state it happened in, as the last of the chain.
    fn shutdown_chain(&mut self) -> Result<Vec<FaultRecord>, VcpuError> {
        let registers = self.read_state()?;
        let fault = match registers.pending {
            Some(Event { vector, error_code, kind: EventKind::Exception }) => (vector, error_code),
            _ => (8, Some(0)), // the hardware stops while delivering a double fault
        };
        let address = (fault.0 == 14).then_some(registers.cr2);
        Ok(vec![FaultRecord {
            vector: fault.0,
            error_code: fault.1,
            address,
            registers: Some(Box::new(registers)),
        }])
    }

    /// An error that shows where the guest is.
    pub(super) fn failure(&mut self, bus: &dyn GuestBus, kind: VcpuErrorKind, what: &str) -> VcpuError {
        let place = match self.read_state() {
            Ok(registers) => {
                let cs = &registers.segments[segment::CS];
                format!(
                    "CPU {} at {:04x}:{:x} (linear {:#x}), bytes {:02x?}, RFLAGS {:#x}, CR0 {:#x}, CR3 {:#x}, \
                     CR4 {:#x}, EFER {:#x}",
                    self.index,
                    cs.selector,
                    registers.rip,
                    registers.linear_rip(),
                    debug::instruction_bytes(&self.fd, bus, &registers),
                    registers.rflags,
                    registers.cr0,
                    registers.cr3,
                    registers.cr4,
                    registers.efer
                )
            }
            Err(error) => format!("CPU {}; its registers cannot be read: {error}", self.index),
        };
        VcpuError::new(kind, format!("{what}; {place}"))
    }
}

fn describe_internal_error(suberror: u32, data: &[u64], instruction: &[u8]) -> String {
    let what = match suberror {
        KVM_INTERNAL_ERROR_EMULATION => "KVM cannot emulate the guest's instruction",
        KVM_INTERNAL_ERROR_SIMUL_EX => "KVM met two exceptions at once",
        KVM_INTERNAL_ERROR_DELIVERY_EV => "KVM could not deliver an event to the guest",
        KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "the processor gave KVM an exit it does not know",
        _ => "KVM gave up",
    };
    format!("{what} (error {suberror}, data {data:x?}, instruction {instruction:02x?})")
}
