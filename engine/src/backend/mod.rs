//! Backends: what executes a vCPU's instructions. One trait, served by the host's KVM and by our own CPU.

pub mod features;
pub mod kicker;
pub mod kvm;
pub mod soft;

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use cpu::{GuestBus, Interest, Registers, RunLimit, Stop};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use kicker::{Bell, Kicker};

/// Why a state cannot be taken over.
const KERNEL_APICS: &str = "the saved machine kept its local APICs in the host's kernel: choose the same backend and \
    interrupt mode";

/// One virtual CPU, whichever backend runs it. May be run from different threads over time, by one at
/// a time.
pub trait Vcpu: Send {
    /// Runs the guest until there is a reason to stop. Ports and device memory are served inside.
    fn run(&mut self, bus: &dyn GuestBus, limit: RunLimit) -> Result<Stop, VcpuError>;

    /// The complete state, at an instruction boundary.
    fn registers(&mut self) -> Result<Registers, VcpuError>;

    /// Replaces the complete state.
    fn set_registers(&mut self, registers: &Registers) -> Result<(), VcpuError>;

    /// Power-on or reset, beginning with `registers`. Unlike [`Vcpu::set_registers`] this also resets what
    /// a backend keeps beside the registers (the host kernel's local APIC and startup state).
    fn reset(&mut self, registers: &Registers) -> Result<(), VcpuError> {
        self.set_registers(registers)
    }

    /// State beside the registers that a saved machine needs; empty where there is none.
    fn save_beside(&mut self) -> Result<Vec<u8>, VcpuError> {
        Ok(Vec::new())
    }

    /// Takes over what [`Vcpu::save_beside`] gave. After [`Vcpu::set_registers`].
    fn load_beside(&mut self, state: &[u8]) -> Result<(), VcpuError> {
        match state {
            [] => Ok(()),
            _ => Err(VcpuError::new(VcpuErrorKind::Registers, KERNEL_APICS)),
        }
    }

    /// The machine stands still from here on: so does what the host counts for this vCPU (timers, time-stamps).
    fn freeze(&mut self) -> Result<(), VcpuError> {
        Ok(())
    }

    /// The machine goes on: time does where it was frozen.
    fn thaw(&mut self) -> Result<(), VcpuError> {
        Ok(())
    }

    /// A handle with which any thread takes control back, at once.
    fn kicker(&self) -> Kicker;

    /// What the host's kernel counts for it by itself, where it does.
    fn statistics(&self) -> Option<kvm::statistics::Statistics> {
        None
    }

    /// Instructions executed so far, where the backend counts them.
    fn instructions(&self) -> Option<u64>;

    /// Steps made so far, where the backend counts them exactly: instructions, and deliveries of interrupts and
    /// exceptions. Limits are reached to the step there.
    fn steps(&self) -> u64 {
        0
    }

    /// Forgets cached translations, where they are ours.
    fn forget_translations(&mut self) {}

    /// Replaces what the vCPU stops at: linear addresses at which [`Stop::Breakpoint`] comes back, before the
    /// instruction there, and what [`Stop::Noticed`] tells of. The run after a stop at a breakpoint passes it.
    /// On an error everything stays as it was.
    fn set_watch(&mut self, breakpoints: &[u64], interest: &Interest) -> Result<(), VcpuError>;

    /// Replaces what the vCPU stops at by execution breakpoints alone.
    fn set_breakpoints(&mut self, linear: &[u64]) -> Result<(), VcpuError> {
        self.set_watch(linear, &Interest::default())
    }

    /// The next run passes a breakpoint where it begins.
    fn pass_breakpoint(&mut self);
}

/// What executes instructions, as a profile or the command line asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// KVM where the host's is fast, else our own CPU.
    #[default]
    Auto,
    /// The host's KVM, or an error.
    Kvm,
    /// Our own CPU.
    Soft,
}

/// Who owns the interrupt controllers and timers under KVM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterruptMode {
    /// All of them are ours, so every timer write, tick and acknowledge can be seen.
    #[default]
    Glass,
    /// The local APIC is the kernel's, the rest is ours.
    Split,
    /// PIC, PIT, I/O APIC and local APIC are the kernel's: fastest, and opaque.
    Kernel,
}

/// A word that names no backend or interrupt mode.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{word}` is not one of {expected}")]
pub struct UnknownWord {
    word: String,
    expected: &'static str,
}

impl FromStr for Backend {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Backend, UnknownWord> {
        match word.to_ascii_lowercase().as_str() {
            "auto" => Ok(Backend::Auto),
            "kvm" => Ok(Backend::Kvm),
            "soft" => Ok(Backend::Soft),
            _ => Err(UnknownWord { word: word.to_owned(), expected: "auto, kvm, soft" }),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Auto => "auto",
            Backend::Kvm => "kvm",
            Backend::Soft => "soft",
        })
    }
}

impl FromStr for InterruptMode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<InterruptMode, UnknownWord> {
        match word.to_ascii_lowercase().as_str() {
            "glass" => Ok(InterruptMode::Glass),
            "split" => Ok(InterruptMode::Split),
            "kernel" => Ok(InterruptMode::Kernel),
            _ => Err(UnknownWord { word: word.to_owned(), expected: "glass, split, kernel" }),
        }
    }
}

impl fmt::Display for InterruptMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InterruptMode::Glass => "glass",
            InterruptMode::Split => "split",
            InterruptMode::Kernel => "kernel",
        })
    }
}

/// What a vCPU was asked for when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuErrorKind {
    /// Making the vCPU.
    Create,
    /// Running: the host refused, or gave an exit that makes no sense here.
    Run,
    /// The hardware refused the guest state (a failed VM entry).
    Entry,
    /// The host's emulator gave up on an instruction.
    Emulation,
    /// Reading or writing registers.
    Registers,
    /// Breakpoints or stepping.
    Debug,
    /// The host's kernel lacks a feature that is needed for this.
    Unsupported,
}

/// Why a vCPU could not do what it was asked.
#[derive(Debug, Error)]
#[error("{context}")]
pub struct VcpuError {
    /// What was asked for.
    pub kind: VcpuErrorKind,
    /// What happened and what the person can do next.
    pub context: String,
    /// The host's reason.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl VcpuError {
    /// An error that is its own reason.
    pub fn new(kind: VcpuErrorKind, context: impl Into<String>) -> VcpuError {
        VcpuError { kind, context: context.into(), source: None }
    }

    /// An error with the host's reason, which is also part of the message.
    pub fn caused(
        kind: VcpuErrorKind,
        context: impl fmt::Display,
        source: impl Error + Send + Sync + 'static,
    ) -> VcpuError {
        VcpuError { kind, context: format!("{context}: {source}"), source: Some(Box::new(source)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values_convert_both_ways() {
        for backend in [Backend::Auto, Backend::Kvm, Backend::Soft] {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        for mode in [InterruptMode::Glass, InterruptMode::Split, InterruptMode::Kernel] {
            assert_eq!(mode.to_string().to_uppercase().parse(), Ok(mode));
        }
        let error = "xen".parse::<Backend>().unwrap_err();
        assert_eq!(error.to_string(), "`xen` is not one of auto, kvm, soft");
    }
}
