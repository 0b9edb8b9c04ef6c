//! One vCPU under KVM: what it is made of, and how the engine holds it. `run` is in [`super::run`], what comes
//! out of the guest in [`super::serve`], its state in [`super::state`].

use std::sync::Arc;

use cpu::{GuestBus, Interest, Pins, Registers, RunLimit, Stop};
use kvm_bindings::*;
use kvm_ioctls::VcpuFd;

use super::bell::KvmBell;
use super::debug::{self, Debugging};
use super::freeze::FrozenTimer;
use super::probe;
use super::state::keeps_tsc_offset;
use super::statistics::Statistics;
use super::vm::{KvmVm, create};
use crate::backend::{InterruptMode, Kicker, Vcpu, VcpuError, VcpuErrorKind};

/// A vCPU that KVM runs.
pub struct KvmVcpu {
    pub(super) fd: VcpuFd,
    pub(super) vm: Arc<KvmVm>,
    pub(super) index: usize,
    pub(super) pins: Arc<Pins>,
    pub(super) bell: Arc<KvmBell>,
    /// Length of the run area in bytes.
    pub(super) run_bytes: usize,
    /// HLT came out (never with a local APIC in the kernel, where HLT blocks).
    pub(super) halted: bool,
    /// Acknowledged, and not yet taken by the kernel, which still holds the one before (`split`).
    pub(super) waiting_vector: Option<u8>,
    /// The next KVM_RUN has to complete an instruction whose access was served.
    pub(super) incomplete: bool,
    /// What the run area says about interrupts is of the present state.
    pub(super) run_area_is_current: bool,
    pub(super) debugging: Debugging,
    /// IA32_APIC_BASE, where the kernel does not keep all of it.
    pub(super) apic_base: u64,
    /// IA32_TSC_DEADLINE as the guest wrote it, in its own time-stamps.
    pub(super) deadline: u64,
    pub(super) host_tsc_hz: u64,
    pub(super) avx: bool,
    /// The host keeps the time-stamp offset it is given.
    pub(super) tsc_offset: bool,
    /// The local APIC as the kernel made it, where it has one.
    pub(super) lapic_at_reset: Option<Box<kvm_lapic_state>>,
    /// Where its time stands, while it stands still.
    pub(super) frozen: Option<FrozenTimer>,
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
            waiting_vector: None,
            incomplete: false,
            run_area_is_current: false,
            debugging: Debugging::new(features.guest_debug, features.debug_flags),
            apic_base: sregs.apic_base,
            deadline: 0,
            host_tsc_hz,
            avx,
            tsc_offset: features.tsc_offset && keeps_tsc_offset(&fd),
            lapic_at_reset,
            frozen: None,
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
    pub(super) fn has_interrupt_pin(&self) -> bool {
        self.vm.mode() != InterruptMode::Kernel
    }

    /// Whether the host takes the time-stamp offset exactly as it is given.
    pub fn has_exact_tsc_offset(&self) -> bool {
        self.tsc_offset
    }
}

impl Vcpu for KvmVcpu {
    fn statistics(&self) -> Option<Statistics> {
        Statistics::open(&self.fd).ok()
    }

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
        self.read_state()
    }

    fn set_registers(&mut self, state: &Registers) -> Result<(), VcpuError> {
        self.write_state(state)
    }

    fn reset(&mut self, state: &Registers) -> Result<(), VcpuError> {
        self.reset_state(state)
    }

    fn save_beside(&mut self) -> Result<Vec<u8>, VcpuError> {
        self.read_beside()
    }

    fn load_beside(&mut self, state: &[u8]) -> Result<(), VcpuError> {
        self.write_beside(state)
    }

    fn freeze(&mut self) -> Result<(), VcpuError> {
        self.freeze_time()
    }

    fn thaw(&mut self) -> Result<(), VcpuError> {
        self.thaw_time()
    }

    fn kicker(&self) -> Kicker {
        Kicker::with_bell(self.pins.clone(), self.bell.clone())
    }

    fn instructions(&self) -> Option<u64> {
        None
    }

    fn set_watch(&mut self, breakpoints: &[u64], interest: &Interest) -> Result<(), VcpuError> {
        let unsupported = |text: &str| VcpuError::new(VcpuErrorKind::Unsupported, text);
        let data = debug::data_slots(interest).map_err(|text| unsupported(&text))?;
        if breakpoints.len() + data.len() > debug::BREAKPOINTS {
            let text = format!(
                "the processor has {} hardware breakpoints for code and data together; the Soft backend has as \
                 many as you like",
                debug::BREAKPOINTS
            );
            return Err(unsupported(&text));
        }
        let wants_any = !breakpoints.is_empty() || !data.is_empty();
        if wants_any && !self.vm.features().guest_debug {
            return Err(unsupported("this host's KVM has no guest debugging; the Soft backend has"));
        }
        if !data.is_empty() && !probe::stops_at_data() {
            return Err(unsupported(
                "this host's KVM does not stop at data breakpoints; the Soft backend does",
            ));
        }
        self.debugging.breakpoints = breakpoints.to_vec();
        self.debugging.data = data;
        Ok(())
    }

    fn pass_breakpoint(&mut self) {
        // Without registers there is nothing to run either.
        self.debugging.stopped_at = self.linear_rip().ok();
    }
}
impl Drop for KvmVcpu {
    fn drop(&mut self) {
        self.bell.close();
    }
}
