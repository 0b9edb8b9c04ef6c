//! One KVM virtual machine: its memory slots, kept in step with the machine's memory map, and its vCPUs.
//!
//! While slots change no vCPU is in the guest: deleting and making a slot is not one step for the kernel,
//! and an instruction fetch in between would fail. Whoever changes the map waits for the others to leave.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use cpu::{CpuModel, Pins};
use hardware::Memory;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, VmFd};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::bell::KvmBell;
use super::chips::Chips;
use super::freeze::Freezer;
use super::host::{Features, Host};
use super::slots::{self, Slot};
use super::vcpu::KvmVcpu;
use super::{cpuid, irqchip};
use crate::backend::features::Offer;
use crate::backend::kicker::Bell;
use crate::backend::{InterruptMode, VcpuError, VcpuErrorKind};

/// Where KVM keeps the page table and task state it needs on processors that cannot run real mode
/// directly: four pages between the I/O APIC and the local APIC, where no device is.
const IDENTITY_MAP: u64 = 0xFEDF_C000;
const TASK_STATE: u64 = IDENTITY_MAP + 0x1000;

type EndOfInterrupt = Box<dyn Fn(u8) + Send + Sync>;

/// A KVM virtual machine.
pub struct KvmVm {
    fd: VmFd,
    memory: Arc<Memory>,
    mode: InterruptMode,
    model: CpuModel,
    features: Features,
    supported: kvm_bindings::CpuId,
    slots: Mutex<Vec<Option<Slot>>>,
    /// Held for reading by a vCPU that is in the guest.
    in_guest: RwLock<()>,
    /// Held by whoever changes the slots.
    change: Mutex<()>,
    changing: AtomicBool,
    bells: Mutex<Vec<Weak<KvmBell>>>,
    /// Why the last change of the slots failed; the next run reports it.
    trouble: Mutex<Option<String>>,
    end_of_interrupt: OnceLock<EndOfInterrupt>,
    /// The kernel's interrupt controllers and timer as it made them (`kernel` mode).
    chips_at_reset: Option<Chips>,
    pub(super) freezer: Freezer,
}

impl KvmVm {
    /// A virtual machine over `memory`, whose map it follows from now on, with all that the host's processor offers.
    pub fn new(host: &Host, memory: Arc<Memory>, mode: InterruptMode) -> Result<Arc<KvmVm>, VcpuError> {
        KvmVm::of_model(host, memory, mode, CpuModel::Host)
    }

    /// The same, with no more features than `model` has.
    pub fn of_model(
        host: &Host,
        memory: Arc<Memory>,
        mode: InterruptMode,
        model: CpuModel,
    ) -> Result<Arc<KvmVm>, VcpuError> {
        let features = host.features();
        // The kernel gives up on a pending signal, which may well be a timer of ours.
        let made = std::iter::repeat_with(|| host.kvm().create_vm())
            .find(|made| !matches!(made, Err(error) if error.errno() == libc::EINTR));
        let fd = made.expect("repeats until it is found").map_err(|error| {
            let context = match error.errno() {
                libc::EBUSY => "another hypervisor holds the processor's virtualization; stop its machines",
                _ => "KVM cannot make a virtual machine",
            };
            VcpuError::caused(VcpuErrorKind::Create, context, error)
        })?;
        let supported = host
            .kvm()
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(create("KVM does not tell its CPUID"))?;
        // Both only matter to some Intel processors; elsewhere the kernel may refuse them.
        if fd.check_extension(Cap::SetIdentityMapAddr) {
            fd.set_identity_map_address(IDENTITY_MAP).map_err(create("KVM cannot place its identity map"))?;
        }
        if fd.check_extension(Cap::SetTssAddr) {
            fd.set_tss_address(TASK_STATE as usize).map_err(create("KVM cannot place its task state"))?;
        }
        irqchip::create(&fd, mode, &features)?;
        let chips_at_reset = match mode {
            InterruptMode::Kernel => Some(Chips::read(&fd)?),
            _ => None,
        };
        let vm = Arc::new(KvmVm {
            fd,
            memory,
            mode,
            model,
            features,
            supported,
            slots: Mutex::default(),
            in_guest: RwLock::default(),
            change: Mutex::default(),
            changing: AtomicBool::new(false),
            bells: Mutex::default(),
            trouble: Mutex::default(),
            end_of_interrupt: OnceLock::new(),
            chips_at_reset,
            freezer: Freezer::default(),
        });
        let follower = Arc::downgrade(&vm);
        vm.memory.on_layout_change(move || {
            if let Some(vm) = follower.upgrade() {
                vm.follow_layout();
            }
        });
        vm.follow_layout();
        vm.check()?;
        Ok(vm)
    }

    /// The vCPU with APIC id `index` of a machine that has `count`.
    pub fn create_vcpu(
        self: &Arc<Self>,
        index: usize,
        count: usize,
        pins: Arc<Pins>,
    ) -> Result<KvmVcpu, VcpuError> {
        if count > self.features.max_vcpus {
            let text = format!("this host's KVM runs at most {} CPUs a machine", self.features.max_vcpus);
            return Err(VcpuError::new(VcpuErrorKind::Create, text));
        }
        let fd = self.fd.create_vcpu(index as u64).map_err(create("KVM cannot make a CPU"))?;
        let leaves = cpuid::leaves(&self.supported, &self.features, self.mode, self.model, index, count)?;
        fd.set_cpuid2(&leaves).map_err(create("KVM refuses the CPU's features"))?;
        let vcpu = KvmVcpu::new(fd, self.clone(), index, pins)?;
        let mut bells = self.bells.lock();
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(vcpu.bell()));
        Ok(vcpu)
    }

    /// What CPUID offers to the machine.
    pub fn offer(&self) -> Offer {
        // What was made once for a vCPU can be made again.
        let made = cpuid::leaves(&self.supported, &self.features, self.mode, self.model, 0, 1);
        Offer::of_leaves(|function, index| {
            let entries = made.as_ref().map_or(&[][..], |leaves| leaves.as_slice());
            let found = entries.iter().find(|e| (e.function, e.index) == (function, index));
            found.map_or([0; 4], |e| [e.eax, e.ebx, e.ecx, e.edx])
        })
    }

    /// Who owns the interrupt controllers.
    pub fn mode(&self) -> InterruptMode {
        self.mode
    }

    /// What the host offers.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Calls `listener` with the vector of each level-triggered interrupt the guest has ended, for the
    /// I/O APIC outside the kernel (`split` only). Can be set once.
    pub fn on_end_of_interrupt(&self, listener: impl Fn(u8) + Send + Sync + 'static) {
        let _ = self.end_of_interrupt.set(Box::new(listener));
    }

    /// Resets the interrupt controllers and the timer that the kernel has. The local APICs are reset with
    /// their vCPUs.
    pub fn reset_chips(&self) -> Result<(), VcpuError> {
        self.chips_at_reset.as_ref().map_or(Ok(()), |chips| self.write_chips(chips))
    }

    /// The state of the chips the kernel has; empty where it has none.
    pub fn save_chips(&self) -> Result<Vec<u8>, VcpuError> {
        match self.mode {
            InterruptMode::Kernel => Ok(Chips::read(&self.fd)?.with_timer(self.freezer.pit()).encode()),
            InterruptMode::Glass | InterruptMode::Split => Ok(Vec::new()),
        }
    }

    /// Takes over what [`KvmVm::save_chips`] gave.
    pub fn load_chips(&self, state: &[u8]) -> Result<(), VcpuError> {
        let chips = Chips::decode(state);
        match (self.mode, chips) {
            (InterruptMode::Kernel, Some(chips)) => self.write_chips(&chips),
            (InterruptMode::Glass | InterruptMode::Split, _) if state.is_empty() => Ok(()),
            _ => {
                let text = "the saved machine had its interrupt controllers elsewhere: choose the interrupt \
                            mode it was saved with";
                Err(VcpuError::new(VcpuErrorKind::Registers, text))
            }
        }
    }

    fn write_chips(&self, chips: &Chips) -> Result<(), VcpuError> {
        chips.write_controllers(&self.fd)?;
        match self.freezer.replace_pit(chips.timer()) {
            true => Ok(()),
            false => chips.write_timer(&self.fd),
        }
    }

    pub(super) fn ended_interrupt(&self, vector: u8) {
        if let Some(listener) = self.end_of_interrupt.get() {
            listener(vector);
        }
    }

    pub(super) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Waits until the slots do not change, and keeps them as they are until the guard is dropped. Call
    /// after the bell's flag was lowered: a change that begins later raises it again.
    pub(super) fn enter_guest(&self) -> RwLockReadGuard<'_, ()> {
        while self.changing.load(Ordering::SeqCst) {
            drop(self.change.lock());
        }
        self.in_guest.read()
    }

    /// Fails if the slots could not follow the memory map.
    pub(super) fn check(&self) -> Result<(), VcpuError> {
        match self.trouble.lock().take() {
            Some(text) => Err(VcpuError::new(VcpuErrorKind::Run, text)),
            None => Ok(()),
        }
    }

    fn follow_layout(&self) {
        let _one_at_a_time = self.change.lock();
        let wanted = slots::wanted(&self.memory.map());
        if wanted.len() > self.features.memory_slots {
            *self.trouble.lock() = Some(format!(
                "the memory map needs {} slots, and this host's KVM has {}",
                wanted.len(),
                self.features.memory_slots
            ));
            return;
        }
        let mut slots = self.slots.lock();
        let changes = slots::change(&mut slots, &wanted);
        self.changing.store(true, Ordering::SeqCst);
        let bells: Vec<_> = self.bells.lock().iter().filter_map(Weak::upgrade).collect();
        bells.iter().for_each(|bell| bell.ring());
        let alone = self.in_guest.write();
        let none = Slot { start: 0, bytes: 0, offset: 0, read_only: false };
        let deletions = changes.delete.iter().map(|number| (*number, none));
        for (number, slot) in deletions.chain(changes.create.iter().copied()) {
            if let Err(error) = self.set_slot(number, slot) {
                *self.trouble.lock() = Some(format!(
                    "KVM cannot map guest memory at {:#x} ({:#x} bytes): {error}",
                    slot.start, slot.bytes
                ));
            }
        }
        drop(alone);
        self.changing.store(false, Ordering::SeqCst);
    }

    fn set_slot(&self, number: usize, slot: Slot) -> Result<(), kvm_ioctls::Error> {
        let flags = if slot.read_only { KVM_MEM_READONLY } else { 0 };
        let region = kvm_userspace_memory_region {
            slot: number as u32,
            flags,
            guest_phys_addr: slot.start,
            memory_size: slot.bytes,
            userspace_addr: self.memory.host_base() as u64 + slot.offset,
        };
        // SAFETY: the range lies inside the memory's mapping (the map's offsets do), which `self.memory`
        // keeps alive for as long as the VM.
        unsafe { self.fd.set_user_memory_region(region) }
    }
}

/// Wraps the host's reason why something could not be made.
pub(super) fn create<E: Error + Send + Sync + 'static>(context: &'static str) -> impl FnOnce(E) -> VcpuError {
    move |error| VcpuError::caused(VcpuErrorKind::Create, context, error)
}
