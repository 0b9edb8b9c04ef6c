//! The software backend's share of one machine: which processor it is, and the wires by which its vCPUs
//! hear that the memory map or cached code changed.

use std::sync::{Arc, Weak};

use cpu::soft::code_watch::CodeWatch;
use cpu::soft::model::CpuModel;
use cpu::{Pins, Signal};
use hardware::Memory;
use parking_lot::Mutex;

/// What the software vCPUs of one machine share.
pub struct SoftMachine {
    model: CpuModel,
    watch: Arc<CodeWatch>,
    members: Arc<Mutex<Vec<Weak<Pins>>>>,
}

impl SoftMachine {
    /// A machine of `model` processors over `memory`: writes by devices drop cached code, and changes of the
    /// map drop cached translations.
    pub fn new(model: CpuModel, memory: &Memory) -> SoftMachine {
        let watch = CodeWatch::new();
        let writes = watch.clone();
        memory.observe_writes(move |range| writes.wrote(range));
        let members: Arc<Mutex<Vec<Weak<Pins>>>> = Arc::default();
        let mapped = members.clone();
        memory.on_layout_change(move || {
            mapped.lock().iter().filter_map(Weak::upgrade).for_each(|pins| pins.raise(Signal::MapChanged));
        });
        SoftMachine { model, watch, members }
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

#[cfg(test)]
mod tests {
    use hardware::memory::Mapping;

    use super::*;

    #[test]
    fn a_vcpu_hears_of_device_writes_to_code_and_of_the_map() {
        let memory = Memory::new(1 << 20, 0).unwrap();
        let machine = SoftMachine::new(CpuModel::X86_64V1, &memory);
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
