//! The KVM backend: the only place that opens `/dev/kvm`.
//!
//! [`Host`] is the open device, [`KvmVm`] one machine's memory and interrupt wiring, [`KvmVcpu`] one CPU.

pub mod bell;
pub mod chips;
pub mod cpuid;
pub mod debug;
pub mod exit;
pub mod fpu;
pub mod freeze;
pub mod host;
mod ioctl;
pub mod irqchip;
pub mod msr;
mod probe;
mod registers;
mod run;
mod serve;
pub mod slots;
pub mod speed;
mod state;
pub mod statistics;
#[cfg(test)]
mod tests;
pub mod vcpu;
pub mod vm;

pub use host::{Features, Host, HostProblem};
pub use irqchip::Message;
pub use vcpu::KvmVcpu;
pub use vm::KvmVm;
