//! One vCPU under KVM: the loop around KVM_RUN, interrupts into the guest, and exits out of it.
//!
//! The loop's order matters: lower the bell's flag, then read the pins, then enter. Whoever raises a pin
//! does so before ringing, so either we see the pin or KVM_RUN sees the flag.

use std::error::Error;
use std::sync::Arc;

use cpu::registers::{Event, EventKind, Registers, segment};
use cpu::{FaultRecord, GuestBus, Pins, RunLimit, Signal, Stop};
use kvm_bindings::*;
use kvm_ioctls::VcpuFd;

use super::bell::KvmBell;
use super::debug::{self, Debugging, Watch};
use super::exit::{self, Exit};
use super::vm::{KvmVm, create};
use super::{chips, fpu, ioctl, msr, registers};
use crate::backend::{InterruptMode, Kicker, Vcpu, VcpuError, VcpuErrorKind};

const IF: u64 = 1 << 9;
const HLT: u64 = 0xF4;
/// IA32_APIC_BASE: this is the bootstrap processor.
const BOOTSTRAP: u64 = 1 << 8;

/// A vCPU that KVM runs.
pub struct KvmVcpu {
    fd: VcpuFd,
    vm: Arc<KvmVm>,
    index: usize,
    pins: Arc<Pins>,
    bell: Arc<KvmBell>,
    /// Length of the run area in bytes.
    run_bytes: usize,
    /// HLT came out (never with a local APIC in the kernel, where HLT blocks).
    halted: bool,
    /// The next KVM_RUN has to complete an instruction whose access was served.
    incomplete: bool,
    /// What the run area says about interrupts is of the present state.
    run_area_is_current: bool,
    debugging: Debugging,
    /// IA32_APIC_BASE, where the kernel does not keep all of it.
    apic_base: u64,
    /// IA32_TSC_DEADLINE as the guest wrote it, in its own time-stamps.
    deadline: u64,
    host_tsc_hz: u64,
    avx: bool,
    /// The host keeps the time-stamp offset it is given.
    tsc_offset: bool,
    /// The local APIC as the kernel made it, where it has one.
    lapic_at_reset: Option<Box<kvm_lapic_state>>,
}

impl KvmVcpu {
    pub(super) fn new(
        fd: VcpuFd,
        vm: Arc<KvmVm>,
        index: usize,
        pins: Arc<Pins>,
    ) -> Result<KvmVcpu, VcpuError> {
        let bell = KvmBell::new(&fd).map_err(create("the CPU's bell cannot be made"))?;
        let features = *vm.features();
        let sregs = fd.get_sregs().map_err(create("KVM does not give the CPU's state"))?;
        let leaves =
            fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(create("KVM does not give the CPU's features"))?;
        let avx = leaves.as_slice().iter().any(|e| e.function == 1 && e.ecx & 1 << 28 != 0);
        let lapic_at_reset = match vm.mode() {
            InterruptMode::Glass => None,
            _ => Some(Box::new(fd.get_lapic().map_err(create("KVM does not give the local APIC"))?)),
        };
        let host_tsc_hz = u64::from(fd.get_tsc_khz().unwrap_or(0)) * 1000;
        Ok(KvmVcpu {
            run_bytes: vm.fd().run_size(),
            bell: Arc::new(bell),
            halted: false,
            incomplete: false,
            run_area_is_current: false,
            debugging: Debugging::new(features.guest_debug, features.debug_flags),
            apic_base: sregs.apic_base,
            deadline: 0,
            host_tsc_hz,
            avx,
            tsc_offset: features.tsc_offset && keeps_tsc_offset(&fd),
            lapic_at_reset,
            fd,
            vm,
            index,
            pins,
        })
    }

    pub(super) fn bell(&self) -> &Arc<KvmBell> {
        &self.bell
    }

    /// The APIC id.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether the kernel has the local APIC: HLT then blocks inside `run`, so the vCPU needs a thread of
    /// its own, and its task priority and APIC base are the kernel's.
    pub fn has_kernel_apic(&self) -> bool {
        self.vm.mode() != InterruptMode::Glass
    }

    /// Whether pins and acknowledge cycles of our own controllers reach this vCPU.
    fn has_interrupt_pin(&self) -> bool {
        self.vm.mode() != InterruptMode::Kernel
    }

    /// Whether the host takes the time-stamp offset exactly as it is given.
    pub fn has_exact_tsc_offset(&self) -> bool {
        self.tsc_offset
    }

    /// One instruction, or one interrupt delivery.
    fn step(&mut self, bus: &dyn GuestBus) -> Result<Stop, VcpuError> {
        if let Some(stop) = self.deliver_as_step(bus)? {
            return Ok(stop);
        }
        self.debugging.watch(&self.fd, Watch::Step)?;
        let before = self.linear_rip()?;
        let is_halt = debug::read_linear(&self.fd, bus, before, 1) == Some(HLT);
        let stop = self.run_guest(bus)?;
        if stop != Stop::Step {
            return Ok(stop);
        }
        let after = self.linear_rip()?;
        self.debugging.stopped_at = Some(after);
        if is_halt && after == before.wrapping_add(1) && !self.has_kernel_apic() {
            // Some hosts tell of the step and not of the halt it was.
            self.halted = true;
            return Ok(Stop::Halted);
        }
        Ok(stop)
    }

    /// If an interrupt is due: delivers it, up to the first instruction of its handler.
    fn deliver_as_step(&mut self, bus: &dyn GuestBus) -> Result<Option<Stop>, VcpuError> {
        if self.has_kernel_apic()
            || !self.pins.is_raised(Signal::Interrupt)
            || self.pins.is_raised(Signal::Kick)
            || !self.can_take_interrupt()?
        {
            return Ok(None);
        }
        let before = self.registers()?;
        let Some(vector) = bus.acknowledge_interrupt() else { return Ok(None) };
        let handler = debug::handler_address(&self.fd, bus, &before, vector);
        let watch = handler.map_or(Watch::Step, |address| Watch::Addresses(vec![address]));
        self.debugging.watch(&self.fd, watch)?;
        self.inject(vector)?;
        Ok(Some(match self.run_guest(bus)? {
            Stop::Breakpoint(address) => {
                self.debugging.stopped_at = Some(address);
                Stop::Step
            }
            stop => stop,
        }))
    }

    /// Runs with the monitor's breakpoints; the one it stopped at last is passed first.
    fn run_freely(&mut self, bus: &dyn GuestBus) -> Result<Stop, VcpuError> {
        let breakpoints = self.debugging.breakpoints.clone();
        if breakpoints.is_empty() {
            self.debugging.watch(&self.fd, Watch::Off)?;
            return self.run_guest(bus);
        }
        if let Some(stopped_at) = self.debugging.stopped_at.take()
            && breakpoints.contains(&stopped_at)
            && self.linear_rip()? == stopped_at
        {
            match self.step(bus)? {
                Stop::Step => {}
                stop => return Ok(stop),
            }
            if let Some(address) = self.debugging.stopped_at
                && breakpoints.contains(&address)
            {
                return Ok(Stop::Breakpoint(address));
            }
        }
        self.debugging.watch(&self.fd, Watch::Addresses(breakpoints))?;
        let stop = self.run_guest(bus)?;
        self.debugging.stopped_at = match stop {
            Stop::Breakpoint(address) => Some(address),
            _ => None,
        };
        Ok(stop)
    }

    fn run_guest(&mut self, bus: &dyn GuestBus) -> Result<Stop, VcpuError> {
        loop {
            self.bell.lower_flag();
            if self.pins.take(Signal::Kick) {
                return match self.complete(bus)? {
                    Some(stop) => {
                        self.pins.raise(Signal::Kick);
                        Ok(stop)
                    }
                    None => Ok(Stop::Kicked),
                };
            }
            // KVM follows the map by its slots, and sees every write to code by itself.
            self.pins.take(Signal::MapChanged);
            self.pins.take(Signal::CodeChanged);
            if self.pins.take(Signal::Nmi) {
                self.fd.nmi().map_err(run_error("KVM does not take an NMI"))?;
                self.halted = false;
            }
            self.offer_interrupt(bus)?;
            if self.halted {
                return Ok(Stop::Halted);
            }
            let exit = self.enter(bus)?;
            if let Some(stop) = self.serve(bus, exit)? {
                return Ok(stop);
            }
            if self.incomplete && self.debugging.is_stepping() {
                // The access was the step, and not every host stops after completing it.
                return Ok(self.complete(bus)?.unwrap_or(Stop::Step));
            }
        }
    }

    /// Completes the instruction whose access was served last, without executing another.
    fn complete(&mut self, bus: &dyn GuestBus) -> Result<Option<Stop>, VcpuError> {
        while self.incomplete {
            self.bell.raise_flag();
            let exit = self.enter(bus)?;
            if let Some(stop) = self.serve(bus, exit)? {
                return Ok(Some(stop));
            }
        }
        Ok(None)
    }

    /// Delivers a raised interrupt if the guest can take it, or asks to be told when it can.
    fn offer_interrupt(&mut self, bus: &dyn GuestBus) -> Result<(), VcpuError> {
        if !self.has_interrupt_pin() {
            return Ok(());
        }
        let stepping = self.debugging.is_stepping();
        if self.pins.is_raised(Signal::Interrupt)
            && !stepping
            && self.can_take_interrupt()?
            && let Some(vector) = bus.acknowledge_interrupt()
        {
            self.inject(vector)?;
        }
        let wait = !stepping && self.pins.is_raised(Signal::Interrupt);
        self.fd.get_kvm_run().request_interrupt_window = u8::from(wait);
        Ok(())
    }

    fn inject(&mut self, vector: u8) -> Result<(), VcpuError> {
        ioctl::interrupt(&self.fd, vector).map_err(run_error("KVM does not take an interrupt"))?;
        self.halted = false;
        // One at a time: the next is offered after the guest was entered.
        self.fd.get_kvm_run().ready_for_interrupt_injection = 0;
        self.run_area_is_current = true;
        Ok(())
    }

    fn can_take_interrupt(&mut self) -> Result<bool, VcpuError> {
        if self.run_area_is_current {
            let run = self.fd.get_kvm_run();
            return Ok(run.ready_for_interrupt_injection != 0 && run.if_flag != 0);
        }
        if self.has_kernel_apic() {
            return Ok(false); // the kernel tells after the next entry
        }
        let events = self.fd.get_vcpu_events().map_err(registers_error)?;
        let rflags = self.fd.get_regs().map_err(registers_error)?.rflags;
        let held_off = events.interrupt.shadow != 0
            || events.interrupt.injected != 0
            || events.exception.injected != 0
            || events.nmi.injected != 0;
        Ok(rflags & IF != 0 && !held_off)
    }

    fn enter(&mut self, bus: &dyn GuestBus) -> Result<Exit, VcpuError> {
        let glass = !self.has_kernel_apic();
        let priority = if glass { u64::from(bus.task_priority() & 0xF) } else { 0 };
        if glass {
            self.fd.get_kvm_run().cr8 = priority;
        }
        let result = {
            let _slots_stay = self.vm.enter_guest();
            self.fd.run().map(|_| ())
        };
        self.run_area_is_current = true;
        self.incomplete = false;
        let exit = match result {
            Ok(()) => exit::decode(self.fd.get_kvm_run()),
            // EAGAIN: a CPU that waited for its start-up message has got it.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Exit::Interrupted,
            Err(error) => {
                self.vm.check()?;
                return Err(self.failure(bus, VcpuErrorKind::Run, &format!("KVM_RUN failed: {error}")));
            }
        };
        self.incomplete = exit.is_incomplete();
        if glass {
            let run = self.fd.get_kvm_run();
            let (cr8, apic_base) = (run.cr8, run.apic_base);
            if cr8 != priority {
                bus.set_task_priority(cr8 as u8 & 0xF);
            }
            if !self.vm.features().msr_exits && apic_base != self.apic_base {
                self.apic_base = apic_base;
                bus.write_apic_msr(msr::APIC_BASE, apic_base);
            }
        }
        Ok(exit)
    }

    /// Serves what is for the bus; gives the reason to stop if there is one.
    fn serve(&mut self, bus: &dyn GuestBus, exit: Exit) -> Result<Option<Stop>, VcpuError> {
        match exit {
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
            Exit::Debug { address, .. } => return Ok(self.debug_stop(address)),
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
    fn debug_stop(&self, address: u64) -> Option<Stop> {
        match self.debugging.is_stepping() {
            true => Some(Stop::Step),
            false => Some(Stop::Breakpoint(address)),
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

    fn set_run_state(&self, mp_state: u32) -> Result<(), VcpuError> {
        self.fd.set_mp_state(kvm_mp_state { mp_state }).map_err(registers_error)
    }

    fn linear_rip(&mut self) -> Result<u64, VcpuError> {
        let regs = self.fd.get_regs().map_err(registers_error)?;
        let cs = self.fd.get_sregs().map_err(registers_error)?.cs;
        Ok(cs.base.wrapping_add(regs.rip))
    }

    /// What can still be told after a triple fault: the state it happened in, as the last of the chain.
    fn shutdown_chain(&mut self) -> Result<Vec<FaultRecord>, VcpuError> {
        let registers = self.registers()?;
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
    fn failure(&mut self, bus: &dyn GuestBus, kind: VcpuErrorKind, what: &str) -> VcpuError {
        let place = match self.registers() {
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

    fn tsc_offset(&self) -> u64 {
        if self.tsc_offset
            && let Ok(offset) = ioctl::tsc_offset(&self.fd)
        {
            return offset;
        }
        // Without the exact value: the difference of two readings, the guest's and the host's.
        let host = host_timestamp();
        msr::read(&self.fd, msr::TSC).map_or(0, |guest| guest.wrapping_sub(host))
    }

    fn set_tsc_offset(&self, offset: u64) -> Result<(), VcpuError> {
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

impl Vcpu for KvmVcpu {
    fn run(&mut self, bus: &dyn GuestBus, limit: RunLimit) -> Result<Stop, VcpuError> {
        self.vm.check()?;
        self.bell.enter();
        let result = match limit {
            RunLimit::STEP => self.step(bus),
            _ => self.run_freely(bus),
        };
        // Whatever the reason, the state is at an instruction boundary when it can be looked at.
        let completed = match &result {
            Ok(_) => self.complete(bus).map(|_| ()),
            Err(_) => Ok(()),
        };
        self.bell.leave();
        completed.and(result)
    }

    fn registers(&mut self) -> Result<Registers, VcpuError> {
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

    fn set_registers(&mut self, state: &Registers) -> Result<(), VcpuError> {
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

    fn reset(&mut self, state: &Registers) -> Result<(), VcpuError> {
        self.set_registers(state)?;
        self.deadline = 0;
        if let Some(lapic) = &self.lapic_at_reset {
            self.fd.set_lapic(lapic).map_err(registers_error)?;
            self.set_run_state(match self.index {
                0 => KVM_MP_STATE_RUNNABLE,
                _ => KVM_MP_STATE_UNINITIALIZED, // waits for a start-up message
            })?;
        }
        Ok(())
    }

    fn save_beside(&mut self) -> Result<Vec<u8>, VcpuError> {
        if !self.has_kernel_apic() {
            return Ok(self.deadline.to_le_bytes().to_vec());
        }
        let run_state = self.fd.get_mp_state().map_err(registers_error)?.mp_state;
        let lapic = self.fd.get_lapic().map_err(registers_error)?;
        Ok(chips::encode_lapic(run_state, &lapic))
    }

    fn load_beside(&mut self, state: &[u8]) -> Result<(), VcpuError> {
        let other = || {
            let text = "the saved machine had its local APICs elsewhere: choose the backend and the \
                        interrupt mode it was saved with";
            VcpuError::new(VcpuErrorKind::Registers, text)
        };
        if self.has_kernel_apic() {
            let (run_state, lapic) = chips::decode_lapic(state).ok_or_else(other)?;
            self.fd.set_lapic(&lapic).map_err(registers_error)?;
            return self.set_run_state(run_state);
        }
        // Saved by the software CPU there is none: its deadline is the local APIC's.
        self.deadline = match state {
            [] => 0,
            _ => u64::from_le_bytes(state.try_into().map_err(|_| other())?),
        };
        Ok(())
    }

    fn kicker(&self) -> Kicker {
        Kicker::with_bell(self.pins.clone(), self.bell.clone())
    }

    fn instructions(&self) -> Option<u64> {
        None
    }

    fn set_breakpoints(&mut self, linear: &[u64]) -> Result<(), VcpuError> {
        if linear.len() > debug::BREAKPOINTS {
            let text = format!(
                "the processor has {} hardware breakpoints; the Soft backend has as many as you like",
                debug::BREAKPOINTS
            );
            return Err(VcpuError::new(VcpuErrorKind::Unsupported, text));
        }
        if !linear.is_empty() && !self.vm.features().guest_debug {
            let text = "this host's KVM has no guest debugging; the Soft backend has";
            return Err(VcpuError::new(VcpuErrorKind::Unsupported, text));
        }
        self.debugging.breakpoints = linear.to_vec();
        Ok(())
    }
}

impl Drop for KvmVcpu {
    fn drop(&mut self) {
        self.bell.close();
    }
}

/// A host may have the request and yet give every guest its own time-stamps.
fn keeps_tsc_offset(vcpu: &VcpuFd) -> bool {
    let Ok(before) = ioctl::tsc_offset(vcpu) else { return false };
    let other = before.wrapping_sub(1 << 20);
    let kept =
        ioctl::set_tsc_offset(vcpu, other).is_ok() && ioctl::tsc_offset(vcpu).is_ok_and(|o| o == other);
    ioctl::set_tsc_offset(vcpu, before).is_ok() && kept
}

fn host_timestamp() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
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

fn registers_error(error: kvm_ioctls::Error) -> VcpuError {
    VcpuError::caused(VcpuErrorKind::Registers, "KVM does not give or take the CPU's registers", error)
}

fn run_error<E: Error + Send + Sync + 'static>(context: &'static str) -> impl FnOnce(E) -> VcpuError {
    move |error| VcpuError::caused(VcpuErrorKind::Run, context, error)
}
