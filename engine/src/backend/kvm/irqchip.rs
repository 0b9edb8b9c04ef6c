//! The interrupt controllers the kernel keeps (`split`: the local APICs; `kernel`: all, and the 8254), and
//! the wires to them: lines, messages, routes.

use std::sync::Arc;

use hardware::LineSink;
use hardware::layout::irq;
use kvm_bindings::*;
use kvm_ioctls::VmFd;

use super::host::Features;
use super::vm::{KvmVm, create as creating};
use crate::backend::{InterruptMode, VcpuError, VcpuErrorKind};

/// Inputs of an I/O APIC.
pub const IOAPIC_INPUTS: usize = 24;

/// A message-signalled interrupt: what is written, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Guest-physical address, 0xFEEx_xxxx.
    pub address: u64,
    /// Data, vector in the low byte.
    pub data: u32,
}

/// Makes what `mode` leaves to the kernel.
pub(super) fn create(fd: &VmFd, mode: InterruptMode, features: &Features) -> Result<(), VcpuError> {
    let lacks = |what: &str| {
        let text =
            format!("this host's KVM lacks {what}: choose another interrupt mode (glass always works)");
        Err(VcpuError::new(VcpuErrorKind::Unsupported, text))
    };
    match mode {
        InterruptMode::Glass => {
            if features.msr_exits {
                leave_apic_msrs_to_us(fd)?;
            }
            Ok(())
        }
        InterruptMode::Split => {
            if !features.split_irqchip {
                return lacks("a split interrupt controller");
            }
            let mut cap = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
            cap.args[0] = IOAPIC_INPUTS as u64;
            fd.enable_cap(&cap).map_err(creating("KVM cannot make the local APICs"))
        }
        InterruptMode::Kernel => {
            if !features.irqchip {
                return lacks("interrupt controllers of its own");
            }
            fd.create_irq_chip().map_err(creating("KVM cannot make the interrupt controllers"))?;
            let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
            fd.create_pit2(pit).map_err(creating("KVM cannot make the timer"))?;
            set_routes(fd, &board_routes()).map_err(creating("KVM refuses the interrupt lines"))
        }
    }
}

/// Makes accesses to the local APIC's MSRs come to us. Those at 0x800 need no filter: without a local APIC
/// in the kernel they are invalid there, and invalid ones come to us as well.
fn leave_apic_msrs_to_us(fd: &VmFd) -> Result<(), VcpuError> {
    let reasons = KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL;
    let mut cap = kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, ..Default::default() };
    cap.args[0] = u64::from(reasons);
    fd.enable_cap(&cap).map_err(creating("KVM does not leave registers to us"))?;
    let denied = [0u8; 1]; // a clear bit denies: the access exits
    let range = |base| kvm_ioctls::MsrFilterRange {
        flags: kvm_ioctls::MsrFilterRangeFlags::READ | kvm_ioctls::MsrFilterRangeFlags::WRITE,
        base,
        msr_count: 1,
        bitmap: &denied,
    };
    fd.set_msr_filter(
        kvm_ioctls::MsrFilterDefaultAction::ALLOW,
        &[range(super::msr::APIC_BASE), range(super::msr::TSC_DEADLINE)],
    )
    .map_err(creating("KVM refuses the register filter"))
}

/// ISA lines go to both controllers; the timer's goes to input 2 of the I/O APIC.
fn board_routes() -> Vec<kvm_irq_routing_entry> {
    let chip = |gsi: u32, irqchip: u32, pin: u32| {
        let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
        entry.u.irqchip = kvm_irq_routing_irqchip { irqchip, pin };
        entry
    };
    let mut routes = Vec::new();
    for line in 0..IOAPIC_INPUTS as u32 {
        match line {
            0..8 if line != 2 => routes.push(chip(line, KVM_IRQCHIP_PIC_MASTER, line)),
            8..16 => routes.push(chip(line, KVM_IRQCHIP_PIC_SLAVE, line - 8)),
            _ => {}
        }
        match line {
            irq::TIMER => routes.push(chip(line, KVM_IRQCHIP_IOAPIC, 2)),
            2 => {} // the cascade: no device drives it
            _ => routes.push(chip(line, KVM_IRQCHIP_IOAPIC, line)),
        }
    }
    routes
}

fn set_routes(fd: &VmFd, routes: &[kvm_irq_routing_entry]) -> Result<(), kvm_ioctls::Error> {
    let table = KvmIrqRouting::from_entries(routes).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
    fd.set_gsi_routing(&table)
}

/// The kernel's interrupt inputs, as devices drive them (`kernel` mode).
struct KernelLines(Arc<KvmVm>);

impl LineSink for KernelLines {
    fn set(&self, number: u32, level: bool) {
        if number < IOAPIC_INPUTS as u32 {
            // Cannot fail: the line exists, and the controllers do.
            let _ = self.0.fd().set_irq_line(number, level);
        }
    }
}

impl KvmVm {
    /// The far end of the board's interrupt lines in `kernel` mode. Numbers are those of
    /// [`hardware::layout::irq`].
    pub fn lines(self: &Arc<Self>) -> Option<Arc<dyn LineSink>> {
        (self.mode() == InterruptMode::Kernel)
            .then(|| Arc::new(KernelLines(self.clone())) as Arc<dyn LineSink>)
    }

    /// Delivers a message-signalled interrupt through the kernel's local APICs (`split` and `kernel`).
    /// Says whether a CPU took it.
    pub fn send_message(&self, message: Message) -> bool {
        let msi = kvm_msi {
            address_lo: message.address as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            ..Default::default()
        };
        self.mode() != InterruptMode::Glass && self.fd().signal_msi(msi).is_ok_and(|taken| taken > 0)
    }

    /// Tells the kernel what each input of our I/O APIC sends (`None`: masked), so that it knows whose
    /// end of interrupt to report (`split` only). Call when a redirection entry changes.
    pub fn set_ioapic_messages(&self, messages: &[Option<Message>; IOAPIC_INPUTS]) -> Result<(), VcpuError> {
        if self.mode() != InterruptMode::Split {
            return Ok(());
        }
        let routes: Vec<_> = (0u32..)
            .zip(messages)
            .filter_map(|(gsi, message)| {
                let message = (*message)?;
                let mut entry =
                    kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
                entry.u.msi = kvm_irq_routing_msi {
                    address_lo: message.address as u32,
                    address_hi: (message.address >> 32) as u32,
                    data: message.data,
                    ..Default::default()
                };
                Some(entry)
            })
            .collect();
        set_routes(self.fd(), &routes).map_err(|error| {
            VcpuError::caused(VcpuErrorKind::Run, "KVM refuses the I/O APIC's routes", error)
        })
    }
}
