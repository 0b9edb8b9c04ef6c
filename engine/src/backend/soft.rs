//! The software backend: our own CPU as a [`Vcpu`], and what the vCPUs of one machine share: which
//! processor it is, and the wires by which they hear that the memory map or cached code changed.

use std::sync::{Arc, Weak};

use cpu::soft::SoftCpu;
use cpu::soft::code_watch::CodeWatch;
use cpu::{CpuModel, GuestBus, Interest, Pins, Registers, RunLimit, Signal, Stop};
use hardware::Memory;
use parking_lot::Mutex;

use super::{Kicker, Vcpu, VcpuError, VcpuErrorKind};

/// What the software vCPUs of one machine share.
pub struct SoftMachine {
    model: CpuModel,
    is_exact: bool,
    watch: Arc<CodeWatch>,
    members: Arc<Mutex<Vec<Weak<Pins>>>>,
}

impl SoftMachine {
    /// A machine of `model` processors over `memory`: writes by devices drop cached code, and changes of the
    /// map drop cached translations. Exact processors tell the bus how many steps they have made before they touch
    /// a device or look at the time.
    pub fn new(model: CpuModel, is_exact: bool, memory: &Memory) -> SoftMachine {
        let watch = CodeWatch::new();
        let writes = watch.clone();
        memory.observe_writes(move |range| writes.wrote(range));
        let members: Arc<Mutex<Vec<Weak<Pins>>>> = Arc::default();
        let mapped = members.clone();
        memory.on_layout_change(move || {
            mapped.lock().iter().filter_map(Weak::upgrade).for_each(|pins| pins.raise(Signal::MapChanged));
        });
        SoftMachine { model, is_exact, watch, members }
    }

    /// The processor model.
    pub fn model(&self) -> CpuModel {
        self.model
    }

    /// The map of cached code, which each vCPU joins.
    pub fn watch(&self) -> &Arc<CodeWatch> {
        &self.watch
    }

    /// From now on `pins` get [`Signal::MapChanged`].
    pub fn follow_map(&self, pins: &Arc<Pins>) {
        let mut members = self.members.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(pins));
    }
}

/// A vCPU that our own CPU executes.
pub struct SoftVcpu {
    cpu: SoftCpu,
    pins: Arc<Pins>,
}

impl SoftVcpu {
    /// vCPU `index` of the `count` of `machine`.
    pub fn new(machine: &SoftMachine, index: usize, count: usize, pins: Arc<Pins>) -> SoftVcpu {
        machine.follow_map(&pins);
        let (index, count) = (index as u32, count as u32);
        let mut cpu = SoftCpu::sharing(machine.model, pins.clone(), index, count, &machine.watch);
        cpu.set_exact(machine.is_exact);
        SoftVcpu { cpu, pins }
    }
}

impl Vcpu for SoftVcpu {
    fn run(&mut self, bus: &dyn GuestBus, limit: RunLimit) -> Result<Stop, VcpuError> {
        Ok(self.cpu.run(bus, limit))
    }

    fn registers(&mut self) -> Result<Registers, VcpuError> {
        Ok(self.cpu.registers())
    }

    fn set_registers(&mut self, registers: &Registers) -> Result<(), VcpuError> {
        self.cpu.set_registers(registers);
        Ok(())
    }

    fn kicker(&self) -> Kicker {
        Kicker::polled(self.pins.clone())
    }

    fn instructions(&self) -> Option<u64> {
        Some(self.cpu.instructions())
    }

    fn steps(&self) -> u64 {
        self.cpu.steps()
    }

    fn forget_translations(&mut self) {
        self.cpu.forget_translations();
    }

    fn load_beside(&mut self, state: &[u8]) -> Result<(), VcpuError> {
        // KVM notes the time-stamp deadline beside the local APIC that is ours; the APIC has it too.
        match state.len() {
            0 | 8 => Ok(()),
            _ => Err(VcpuError::new(VcpuErrorKind::Registers, super::KERNEL_APICS)),
        }
    }

    fn set_watch(&mut self, breakpoints: &[u64], interest: &Interest) -> Result<(), VcpuError> {
        self.cpu.set_breakpoints(breakpoints);
        self.cpu.set_interest(interest);
        Ok(())
    }

    fn pass_breakpoint(&mut self) {
        self.cpu.pass_breakpoint();
    }
}

#[cfg(test)]
mod tests {
    use hardware::memory::Mapping;

    use super::*;

    #[test]
    fn a_vcpu_hears_of_device_writes_to_code_and_of_the_map() {
        let memory = Memory::new(1 << 20, 0).unwrap();
        let machine = SoftMachine::new(CpuModel::X86_64V1, false, &memory);
        let pins = Arc::new(Pins::new());
        machine.follow_map(&pins);
        let member = machine.watch().join(pins.clone());
        member.mark(0x2000, 0x2010);
        memory.dma_write(0x3000, &[1]);
        assert_eq!(pins.word(), 0, "no code there");
        memory.dma_write(0x1FFF, &[1, 2]);
        assert!(pins.take(Signal::CodeChanged));
        memory.layer().set(vec![Mapping::hole(0xA_0000, 0xC_0000)]);
        assert!(pins.take(Signal::MapChanged));
        drop(member);
        drop(pins);
        machine.follow_map(&Arc::new(Pins::new()));
        assert_eq!(machine.members.lock().len(), 1, "those that are gone are forgotten");
    }
}
