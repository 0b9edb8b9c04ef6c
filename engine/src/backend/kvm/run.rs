//! The loop around KVM_RUN: steps, breakpoints, and interrupts into the guest.
//!
//! The loop's order matters: lower the bell's flag, then read the pins, then enter. Whoever raises a pin
//! does so before ringing, so either we see the pin or KVM_RUN sees the flag.

use std::error::Error;

use cpu::{GuestBus, Signal, Stop};

use super::debug::{self, Watch};
use super::exit::{self, Exit};
use super::state::registers_error;
use super::{KvmVcpu, ioctl, msr};
use crate::backend::{VcpuError, VcpuErrorKind};

const IF: u64 = 1 << 9;
const HLT: u64 = 0xF4;

impl KvmVcpu {
    /// One instruction, or one interrupt delivery.
    pub(super) fn step(&mut self, bus: &dyn GuestBus) -> Result<Stop, VcpuError> {
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
        let Some(vector) = bus.acknowledge_interrupt() else { return Ok(None) };
        self.enter_handler(bus, vector).map(Some)
    }

    /// Delivers an interrupt, up to the first instruction of its handler.
    fn enter_handler(&mut self, bus: &dyn GuestBus, vector: u8) -> Result<Stop, VcpuError> {
        let before = self.read_state()?;
        let handler = debug::handler_address(&self.fd, bus, &before, vector);
        let watch = handler.map_or(Watch::Step, |address| Watch::Addresses(vec![address], Vec::new()));
        self.debugging.watch(&self.fd, watch)?;
        self.inject(vector)?;
        Ok(match self.run_guest(bus)? {
            Stop::Breakpoint(address) => {
                self.debugging.stopped_at = Some(address);
                Stop::Step
            }
            stop => stop,
        })
    }

    /// Runs with the monitor's breakpoints; the one it stopped at last is passed first.
    pub(super) fn run_freely(&mut self, bus: &dyn GuestBus) -> Result<Stop, VcpuError> {
        let (breakpoints, data) = (self.debugging.breakpoints.clone(), self.debugging.data.clone());
        if breakpoints.is_empty() && data.is_empty() {
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
        self.debugging.watch(&self.fd, Watch::Addresses(breakpoints, data))?;
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
            if let Some(stop) = self.offer_interrupt(bus)? {
                return Ok(stop);
            }
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
    pub(super) fn complete(&mut self, bus: &dyn GuestBus) -> Result<Option<Stop>, VcpuError> {
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
    fn offer_interrupt(&mut self, bus: &dyn GuestBus) -> Result<Option<Stop>, VcpuError> {
        if !self.has_interrupt_pin() {
            return Ok(None);
        }
        let stepping = self.debugging.is_stepping();
        if let Some(vector) = self.waiting_vector.take() {
            self.inject(vector)?;
        }
        if self.waiting_vector.is_none()
            && self.pins.is_raised(Signal::Interrupt)
            && !stepping
            && self.can_take_interrupt()?
            && let Some(vector) = bus.acknowledge_interrupt()
        {
            if self.pins.take(Signal::Kick) {
                // The monitor stops at this interrupt: where its handler begins.
                self.debugging.stopped_at = None;
                return Ok(Some(match self.enter_handler(bus, vector)? {
                    Stop::Step => Stop::Kicked,
                    stop => stop,
                }));
            }
            self.inject(vector)?;
        }
        let wait = !stepping && (self.pins.is_raised(Signal::Interrupt) || self.waiting_vector.is_some());
        self.fd.get_kvm_run().request_interrupt_window = u8::from(wait);
        Ok(None)
    }

    fn inject(&mut self, vector: u8) -> Result<(), VcpuError> {
        match ioctl::interrupt(&self.fd, vector) {
            // The kernel's local APIC holds one already, which it delivers with the next entry.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => self.waiting_vector = Some(vector),
            taken => taken.map_err(run_error("KVM does not take an interrupt"))?,
        }
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
    pub(super) fn linear_rip(&mut self) -> Result<u64, VcpuError> {
        let regs = self.fd.get_regs().map_err(registers_error)?;
        let cs = self.fd.get_sregs().map_err(registers_error)?.cs;
        Ok(cs.base.wrapping_add(regs.rip))
    }
}

fn run_error<E: Error + Send + Sync + 'static>(context: &'static str) -> impl FnOnce(E) -> VcpuError {
    move |error| VcpuError::caused(VcpuErrorKind::Run, context, error)
}
