//! The host's side of KVM: opens `/dev/kvm`, checks what it offers, and tells the causes apart when it
//! cannot be used, each with its fix.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use kvm_bindings::{KVM_API_VERSION, KVM_CAP_SET_GUEST_DEBUG2, KVM_CAP_VCPU_ATTRIBUTES};
use kvm_ioctls::{Cap, Kvm};
use thiserror::Error;

/// The device through which the engine reaches the hardware's virtualization.
const DEVICE: &str = "/dev/kvm";

/// Why KVM cannot be used on this host. The message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostProblem {
    /// The processor does not offer virtualization, or the firmware hides it.
    #[error(
        "this computer offers no hardware virtualization: enable \"Intel VT-x\" or \"AMD-V (SVM)\" in its \
         firmware setup; if it is itself a virtual machine, enable nested virtualization on its host"
    )]
    NoVirtualization,
    /// The kernel module is not loaded.
    #[error("the kernel's KVM module is not loaded: run `sudo modprobe {module}`")]
    ModuleNotLoaded {
        /// Which one belongs to this processor.
        module: &'static str,
    },
    /// The person may not open the device.
    #[error(
        "you may not open /dev/kvm: run `sudo usermod -aG {group} $USER`, then log out and in again (it \
         belongs to the group `{group}`)"
    )]
    NoPermission {
        /// The group that may.
        group: String,
    },
    /// Another program holds the hardware.
    #[error(
        "another hypervisor holds the processor's virtualization (VirtualBox or VMware, for example): stop \
         its machines, then check again"
    )]
    Busy,
    /// The kernel is too old.
    #[error("this host's kernel is too old for Vitrine's use of KVM: it lacks {missing}; Linux 5.10 has it")]
    TooOld {
        /// What it lacks.
        missing: String,
    },
    /// Something else.
    #[error("/dev/kvm cannot be used: {reason}")]
    Other {
        /// The system's words.
        reason: String,
    },
}

/// What was found when the device could not be used; [`HostProblem::from`] judges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The system's error number.
    pub errno: i32,
    /// The group the device file belongs to.
    pub group: Option<String>,
    /// The `flags` line of `/proc/cpuinfo`.
    pub cpu_flags: String,
}

impl Evidence {
    fn gather(errno: i32) -> Evidence {
        let cpu_flags = fs::read_to_string("/proc/cpuinfo")
            .unwrap_or_default()
            .lines()
            .find(|line| line.starts_with("flags"))
            .unwrap_or_default()
            .to_owned();
        let device = fs::metadata(DEVICE);
        let group = device.as_ref().ok().and_then(|m| group_name(m.gid()));
        Evidence { errno, group, cpu_flags }
    }
}

impl From<Evidence> for HostProblem {
    fn from(evidence: Evidence) -> HostProblem {
        let has = |flag| evidence.cpu_flags.split_whitespace().any(|f| f == flag);
        let module = if has("vmx") {
            Some("kvm_intel")
        } else if has("svm") {
            Some("kvm_amd")
        } else {
            None
        };
        match evidence.errno {
            // A group of its own is what distributions give the device; root's is no fix to offer.
            libc::EACCES | libc::EPERM => HostProblem::NoPermission {
                group: evidence.group.filter(|g| g != "root").unwrap_or_else(|| "kvm".to_owned()),
            },
            libc::EBUSY => HostProblem::Busy,
            // The node may be static: opening it without the module gives ENODEV or ENXIO.
            libc::ENOENT | libc::ENODEV | libc::ENXIO => match module {
                Some(module) => HostProblem::ModuleNotLoaded { module },
                None => HostProblem::NoVirtualization,
            },
            errno => HostProblem::Other { reason: io::Error::from_raw_os_error(errno).to_string() },
        }
    }
}

/// An open `/dev/kvm` that has what every machine needs.
pub struct Host {
    kvm: Kvm,
}

impl Host {
    /// Opens the device and checks the features without which nothing works.
    pub fn open() -> Result<Host, HostProblem> {
        let kvm = Kvm::new().map_err(|error| HostProblem::from(Evidence::gather(error.errno())))?;
        if kvm.get_api_version() != KVM_API_VERSION as i32 {
            return Err(HostProblem::TooOld { missing: "API version 12".to_owned() });
        }
        let needed = [
            (Cap::UserMemory, "user memory"),
            (Cap::ReadonlyMem, "read-only memory"),
            (Cap::ImmediateExit, "immediate exit"),
            (Cap::VcpuEvents, "vCPU events"),
            (Cap::Debugregs, "debug registers"),
            (Cap::Xsave, "XSAVE state"),
            (Cap::ExtCpuid, "CPUID"),
        ];
        for (cap, name) in needed {
            if !kvm.check_extension(cap) {
                return Err(HostProblem::TooOld { missing: name.to_owned() });
            }
        }
        Ok(Host { kvm })
    }

    /// The open device.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// What the host offers beyond the necessary.
    pub fn features(&self) -> Features {
        let has = |cap| self.kvm.check_extension(cap);
        Features {
            irqchip: has(Cap::Irqchip) && has(Cap::Pit2) && has(Cap::IrqRouting) && has(Cap::SignalMsi),
            split_irqchip: has(Cap::SplitIrqchip) && has(Cap::IrqRouting) && has(Cap::SignalMsi),
            msr_exits: has(Cap::X86UserSpaceMsr) && has(Cap::X86MsrFilter),
            guest_debug: has(Cap::SetGuestDebug),
            // The capability's value is the mask of supported KVM_GUESTDBG_* flags.
            debug_flags: self.kvm.check_extension_raw(u64::from(KVM_CAP_SET_GUEST_DEBUG2)).max(0) as u32,
            tsc_offset: self.kvm.check_extension_raw(u64::from(KVM_CAP_VCPU_ATTRIBUTES)) > 0,
            tsc_deadline: has(Cap::TscDeadlineTimer),
            xcrs: has(Cap::Xcrs),
            max_vcpus: self.kvm.get_max_vcpus(),
            memory_slots: self.kvm.get_nr_memslots(),
        }
    }
}

/// Optional features of the host's KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// PIC, I/O APIC, local APIC and PIT in the kernel ([`crate::backend::InterruptMode::Kernel`]).
    pub irqchip: bool,
    /// Only the local APIC in the kernel ([`crate::backend::InterruptMode::Split`]).
    pub split_irqchip: bool,
    /// MSR accesses can be left to us.
    pub msr_exits: bool,
    /// Breakpoints and stepping.
    pub guest_debug: bool,
    /// Supported KVM_GUESTDBG_* flags; 0 if the host does not tell.
    pub debug_flags: u32,
    /// The time-stamp offset can be read and set exactly.
    pub tsc_offset: bool,
    /// The kernel's local APIC has the TSC-deadline mode.
    pub tsc_deadline: bool,
    /// XCR0 can be read and set.
    pub xcrs: bool,
    /// vCPUs a machine can have.
    pub max_vcpus: usize,
    /// Memory slots a machine can have.
    pub memory_slots: usize,
}

fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(errno: i32, group: Option<&str>, cpu_flags: &str) -> HostProblem {
        HostProblem::from(Evidence {
            errno,
            group: group.map(str::to_owned),
            cpu_flags: cpu_flags.to_owned(),
        })
    }

    #[test]
    fn each_cause_has_its_own_fix() {
        assert_eq!(judge(libc::ENOENT, None, "flags : fpu sse"), HostProblem::NoVirtualization);
        assert_eq!(judge(libc::ENODEV, Some("kvm"), "flags : fpu"), HostProblem::NoVirtualization);
        assert_eq!(
            judge(libc::ENOENT, None, "flags : fpu vmx"),
            HostProblem::ModuleNotLoaded { module: "kvm_intel" }
        );
        assert_eq!(
            judge(libc::ENXIO, None, "flags : fpu svm"),
            HostProblem::ModuleNotLoaded { module: "kvm_amd" }
        );
        assert_eq!(
            judge(libc::EACCES, Some("virt"), "flags : vmx"),
            HostProblem::NoPermission { group: "virt".to_owned() }
        );
        assert_eq!(
            judge(libc::EACCES, Some("root"), "flags : vmx"),
            HostProblem::NoPermission { group: "kvm".to_owned() }
        );
        assert_eq!(judge(libc::EBUSY, None, "flags : vmx"), HostProblem::Busy);
        assert!(matches!(judge(libc::EMFILE, None, ""), HostProblem::Other { .. }));
    }

    #[test]
    fn messages_say_what_to_do() {
        let message = judge(libc::EACCES, Some("kvm"), "").to_string();
        assert!(message.contains("usermod -aG kvm"), "{message}");
        assert!(judge(libc::ENOENT, None, "flags : svm").to_string().contains("modprobe kvm_amd"));
    }
}
