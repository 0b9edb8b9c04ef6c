//! The machine's platform: which backend executes, and where its interrupt controllers live.

use std::sync::Arc;

use cpu::Pins;
use hardware::interrupts::{CpuLines, Fabric, Message, MessageSink};
use hardware::{Alarm, Clock, LineSink, Memory, MessagePort, Messages};

use super::guest_bus::TIMESTAMP_HZ;
use crate::backend::features::Offer;
use crate::backend::kvm::{self, Host, KvmVm};
use crate::backend::soft::{SoftMachine, SoftVcpu};
use crate::backend::{Backend, InterruptMode, Vcpu};
use crate::profile::Profile;

/// Who executes, chosen for one machine.
pub struct Platform {
    engine: Engine,
    /// One sentence: what was chosen, and why.
    pub note: String,
}

enum Engine {
    Soft(SoftMachine),
    Kvm(Arc<KvmVm>),
}

/// Where the interrupt lines of the board end.
pub enum Controllers {
    /// PIC and I/O APIC are ours.
    Ours(Arc<Fabric>),
    /// All of them, and the 8254, are the host kernel's: its lines, and where messages go.
    Kernel(Arc<dyn LineSink>, Messages),
}

impl Platform {
    /// Chooses and makes what `profile` asks for, over `memory`.
    pub fn new(profile: &Profile, memory: &Arc<Memory>) -> Result<Platform, String> {
        if profile.deterministic.is_some() {
            let engine = Engine::Soft(SoftMachine::new(profile.model, true, memory));
            return Ok(Platform { engine, note: format!("Software CPU ({}), deterministic", profile.model) });
        }
        let choice = kvm::speed::choose(profile.backend, false).map_err(|error| error.to_string())?;
        let why = choice.reason.map(|reason| format!("; {reason}")).unwrap_or_default();
        if choice.backend == Backend::Soft {
            let engine = Engine::Soft(SoftMachine::new(profile.model, false, memory));
            return Ok(Platform { engine, note: format!("Software CPU ({}){why}", profile.model) });
        }
        let host = Host::open().map_err(|problem| problem.to_string())?;
        let vm = KvmVm::of_model(&host, memory.clone(), profile.interrupts, profile.model)
            .map_err(|error| error.to_string())?;
        Ok(Platform { engine: Engine::Kvm(vm), note: format!("KVM, {} interrupts{why}", profile.interrupts) })
    }

    /// Whether vCPUs block inside the kernel and start each other there.
    pub fn has_kernel_apics(&self) -> bool {
        matches!(&self.engine, Engine::Kvm(vm) if vm.mode() != InterruptMode::Glass)
    }

    /// Whether our own CPU executes.
    pub fn is_soft(&self) -> bool {
        matches!(&self.engine, Engine::Soft(_))
    }

    /// Resets what the host's kernel emulates of the board.
    pub fn reset(&self) -> Result<(), String> {
        match &self.engine {
            Engine::Soft(_) => Ok(()),
            Engine::Kvm(vm) => vm.reset_chips().map_err(|error| error.to_string()),
        }
    }

    /// The state of the chips the host's kernel has; empty where it has none.
    pub fn save_chips(&self) -> Result<Vec<u8>, String> {
        match &self.engine {
            Engine::Soft(_) => Ok(Vec::new()),
            Engine::Kvm(vm) => vm.save_chips().map_err(|error| error.to_string()),
        }
    }

    /// Takes over what [`Platform::save_chips`] gave.
    pub fn load_chips(&self, state: &[u8]) -> Result<(), String> {
        match &self.engine {
            Engine::Soft(_) if state.is_empty() => Ok(()),
            Engine::Soft(_) => {
                Err("the saved machine had its interrupt controllers in the host's kernel".into())
            }
            Engine::Kvm(vm) => vm.load_chips(state).map_err(|error| error.to_string()),
        }
    }

    /// What the guest's time-stamp counters are counted from. Only while held.
    pub fn timestamp(&self, clock: &Clock) -> u64 {
        match &self.engine {
            Engine::Soft(_) => clock.now(),
            Engine::Kvm(vm) => vm.timestamp(),
        }
    }

    /// Who executes, in a word, and where the interrupt controllers are.
    pub fn kind(&self) -> (Backend, InterruptMode) {
        match &self.engine {
            Engine::Soft(_) => (Backend::Soft, InterruptMode::Glass),
            Engine::Kvm(vm) => (Backend::Kvm, vm.mode()),
        }
    }

    /// What CPUID offers to the guest.
    pub fn offer(&self) -> Offer {
        match &self.engine {
            Engine::Soft(machine) => Offer::of_features(machine.model().features()),
            Engine::Kvm(vm) => vm.offer(),
        }
    }

    /// Stops what the host's kernel counts for the machine, whose vCPUs stand still.
    pub fn freeze(&self) -> Result<(), String> {
        match &self.engine {
            Engine::Soft(_) => Ok(()),
            Engine::Kvm(vm) => vm.freeze().map_err(|error| error.to_string()),
        }
    }

    /// Lets it go on from there.
    pub fn thaw(&self) -> Result<(), String> {
        match &self.engine {
            Engine::Soft(_) => Ok(()),
            Engine::Kvm(vm) => vm.thaw().map_err(|error| error.to_string()),
        }
    }

    /// The interrupt controllers for `cpus` vCPUs.
    pub fn controllers(
        &self,
        cpus: usize,
        clock: &Clock,
        alarm: Alarm,
        lines: Box<dyn CpuLines>,
    ) -> Controllers {
        let Engine::Kvm(vm) = &self.engine else {
            return Controllers::Ours(Fabric::new(cpus, clock.clone(), alarm, TIMESTAMP_HZ, lines));
        };
        match vm.mode() {
            InterruptMode::Glass => {
                Controllers::Ours(Fabric::new(cpus, clock.clone(), alarm, TIMESTAMP_HZ, lines))
            }
            InterruptMode::Split => {
                let fabric = Fabric::split(Box::new(KernelApics(vm.clone())), lines);
                let listener = Arc::downgrade(&fabric);
                vm.on_end_of_interrupt(move |vector| {
                    if let Some(fabric) = listener.upgrade() {
                        fabric.end_of_interrupt(vector);
                    }
                });
                Controllers::Ours(fabric)
            }
            InterruptMode::Kernel => {
                let lines = vm.lines().expect("kernel mode has the kernel's lines");
                Controllers::Kernel(lines, Messages::new(Arc::new(KernelApics(vm.clone()))))
            }
        }
    }

    /// vCPU `index` of `count`.
    pub fn vcpu(&self, index: usize, count: usize, pins: Arc<Pins>) -> Result<Box<dyn Vcpu>, String> {
        Ok(match &self.engine {
            Engine::Soft(machine) => Box::new(SoftVcpu::new(machine, index, count, pins)),
            Engine::Kvm(vm) => {
                Box::new(vm.create_vcpu(index, count, pins).map_err(|error| error.to_string())?)
            }
        })
    }
}

/// The kernel's local APICs, as our I/O APIC and devices send to them.
struct KernelApics(Arc<KvmVm>);

impl MessagePort for KernelApics {
    fn send(&self, address: u64, data: u32) {
        self.0.send_message(kvm::irqchip::Message { address, data });
    }
}

impl MessageSink for KernelApics {
    fn deliver(&self, message: Message) {
        let (address, data) = message.to_msi();
        self.0.send_message(kvm::irqchip::Message { address, data });
    }

    fn routes_changed(&self, routes: &[Option<Message>; kvm::irqchip::IOAPIC_INPUTS]) {
        let messages = routes.map(|route| {
            route.map(|message| {
                let (address, data) = message.to_msi();
                kvm::irqchip::Message { address, data }
            })
        });
        // A refused route only means that its end of interrupt is not reported; the line itself works.
        let _ = self.0.set_ioapic_messages(&messages);
    }
}
