//! The vCPU requests that `kvm-ioctls` does not offer on x86. Source: Linux uapi, `linux/kvm.h`.

use std::io;
use std::os::fd::AsRawFd;

use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_device_attr};
use kvm_ioctls::VcpuFd;

/// `_IOW(KVMIO, 0x86, struct kvm_interrupt)`
const KVM_INTERRUPT: u64 = 0x4004_AE86;
/// `_IOW(KVMIO, 0xE1, struct kvm_device_attr)`
const KVM_SET_DEVICE_ATTR: u64 = 0x4018_AEE1;
/// `_IOW(KVMIO, 0xE2, struct kvm_device_attr)`
const KVM_GET_DEVICE_ATTR: u64 = 0x4018_AEE2;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Queues an external interrupt. Only for a vCPU that can take one now, or with a split irqchip.
pub fn interrupt(vcpu: &VcpuFd, vector: u8) -> io::Result<()> {
    let request = u32::from(vector); // struct kvm_interrupt { __u32 irq; }
    // SAFETY: the descriptor is a vCPU's, and the kernel only reads the four bytes of `request`.
    check(unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_INTERRUPT, &request) })
}

/// What is added to the host's time-stamp counter for the guest (Linux 5.16).
pub fn tsc_offset(vcpu: &VcpuFd) -> io::Result<u64> {
    let mut offset = 0u64;
    let attribute = tsc_offset_attribute(&raw mut offset);
    // SAFETY: the descriptor is a vCPU's; the kernel reads `attribute` and writes eight bytes to `offset`.
    check(unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_DEVICE_ATTR, &attribute) })?;
    Ok(offset)
}

/// Sets what is added to the host's time-stamp counter for the guest.
pub fn set_tsc_offset(vcpu: &VcpuFd, mut offset: u64) -> io::Result<()> {
    let attribute = tsc_offset_attribute(&raw mut offset);
    // SAFETY: the descriptor is a vCPU's; the kernel reads `attribute` and the eight bytes of `offset`.
    check(unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_DEVICE_ATTR, &attribute) })
}

fn tsc_offset_attribute(offset: *mut u64) -> kvm_device_attr {
    kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: offset as u64,
    }
}
