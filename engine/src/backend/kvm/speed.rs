//! How fast the host's KVM really is: times a short loop in a throw-away machine. Where "KVM" interprets
//! (a virtual machine without nested virtualization), our own CPU is faster by far.

use std::sync::OnceLock;
use std::time::Instant;

use cpu::registers::{Registers, Segment, segment};
use cpu::{GuestBus, HostPage, RunLimit, Stop};
use hardware::Memory;

use super::{Host, KvmVm};
use crate::backend::{Backend, InterruptMode, Vcpu, VcpuError, VcpuErrorKind};

/// Below this many instructions a second the host does not execute but interprets.
pub const INTERPRETED_BELOW: u64 = 100_000_000;

/// Enough to tell an interpreter from a processor, and short enough for one: some 10 ms.
const FIRST_ROUNDS: u32 = 20_000;
/// Enough for a figure, for a processor: some 2 ms.
const SECOND_ROUNDS: u32 = 2_000_000;

/// What was chosen, and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// [`Backend::Kvm`] or [`Backend::Soft`].
    pub backend: Backend,
    /// One sentence for the person, when it is not what they might expect.
    pub reason: Option<String>,
    /// Instructions a second under KVM, if it runs at all.
    pub kvm_instructions_per_second: Option<u64>,
}

/// Chooses between KVM and our own CPU, measuring once a process. "Check again" passes `again`.
pub fn choose(wanted: Backend, again: bool) -> Result<Choice, VcpuError> {
    if wanted == Backend::Soft {
        return Ok(Choice { backend: Backend::Soft, reason: None, kvm_instructions_per_second: None });
    }
    let measured = if again { measure() } else { measure_once() };
    judge(wanted, measured)
}

/// The decision itself.
fn judge(wanted: Backend, measured: Result<u64, String>) -> Result<Choice, VcpuError> {
    match (wanted, measured) {
        (Backend::Auto, Ok(speed)) if speed < INTERPRETED_BELOW => Ok(Choice {
            backend: Backend::Soft,
            reason: Some(format!(
                "KVM works here but only interprets (about {} million instructions a second), so Vitrine's \
                 own CPU is used: it is faster",
                speed / 1_000_000
            )),
            kvm_instructions_per_second: Some(speed),
        }),
        (_, Ok(speed)) => {
            Ok(Choice { backend: Backend::Kvm, reason: None, kvm_instructions_per_second: Some(speed) })
        }
        (Backend::Kvm, Err(reason)) => Err(VcpuError::new(VcpuErrorKind::Create, reason)),
        (_, Err(reason)) => Ok(Choice {
            backend: Backend::Soft,
            reason: Some(format!("Vitrine's own CPU is used: {reason}")),
            kvm_instructions_per_second: None,
        }),
    }
}

fn measure_once() -> Result<u64, String> {
    static MEASURED: OnceLock<Result<u64, String>> = OnceLock::new();
    MEASURED.get_or_init(measure).clone()
}

/// Instructions a second of a loop in real mode.
fn measure() -> Result<u64, String> {
    let host = Host::open().map_err(|problem| problem.to_string())?;
    let first = time(&host, FIRST_ROUNDS).map_err(|error| error.to_string())?;
    match first < INTERPRETED_BELOW / 4 {
        true => Ok(first),
        false => time(&host, SECOND_ROUNDS).map_err(|error| error.to_string()),
    }
}

fn time(host: &Host, rounds: u32) -> Result<u64, VcpuError> {
    const CODE: u64 = 0x1000;
    let made = |error| VcpuError::caused(VcpuErrorKind::Create, "no memory for the speed test", error);
    let memory = Memory::new(0x1_0000, 0).map_err(made)?;
    let mut code = vec![0x66, 0xB9]; // mov ecx, rounds
    code.extend(rounds.to_le_bytes());
    code.extend([0x66, 0x49, 0x75, 0xFC, 0xF4]); // again: dec ecx; jnz again; hlt
    memory.write_at(CODE, &code);
    let vm = KvmVm::new(host, memory, InterruptMode::Glass)?;
    let mut vcpu = vm.create_vcpu(0, 1, Default::default())?;
    let mut state = Registers::reset();
    state.segments[segment::CS] = Segment { attributes: 0x9B, ..Segment::real(0) };
    state.rip = CODE;
    vcpu.set_registers(&state)?;
    let start = Instant::now();
    let stop = vcpu.run(&Nothing, RunLimit::NONE)?;
    let elapsed = start.elapsed().as_nanos().max(1);
    if stop != Stop::Halted {
        return Err(VcpuError::new(VcpuErrorKind::Run, format!("the speed test ended with {stop:?}")));
    }
    Ok((u128::from(rounds) * 2 * 1_000_000_000 / elapsed) as u64)
}

/// A machine without devices.
pub(super) struct Nothing;

impl GuestBus for Nothing {
    fn page(&self, _address: u64) -> HostPage {
        HostPage::DEVICE
    }
    fn map_generation(&self) -> u64 {
        0
    }
    fn read(&self, _address: u64, bytes: usize) -> u64 {
        u64::MAX >> (64 - 8 * bytes.clamp(1, 8))
    }
    fn write(&self, _address: u64, _bytes: usize, _value: u64) {}
    fn port_in(&self, _port: u16, bytes: usize) -> u32 {
        u32::MAX >> (32 - 8 * bytes.clamp(1, 4))
    }
    fn port_out(&self, _port: u16, _bytes: usize, _value: u32) {}
    fn acknowledge_interrupt(&self) -> Option<u8> {
        None
    }
    fn timestamp(&self) -> u64 {
        0
    }
    fn timestamp_hz(&self) -> u64 {
        1_000_000_000
    }
    fn read_apic_msr(&self, _index: u32) -> Option<u64> {
        None
    }
    fn write_apic_msr(&self, _index: u32, _value: u64) -> bool {
        false
    }
    fn task_priority(&self) -> u8 {
        0
    }
    fn set_task_priority(&self, _priority: u8) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_kvm_only_where_it_executes() {
        let fast = judge(Backend::Auto, Ok(2_000_000_000)).unwrap();
        assert_eq!((fast.backend, fast.reason), (Backend::Kvm, None));
        let slow = judge(Backend::Auto, Ok(3_000_000)).unwrap();
        assert_eq!(slow.backend, Backend::Soft);
        assert!(slow.reason.unwrap().contains("about 3 million"));
        assert_eq!(judge(Backend::Kvm, Ok(3_000_000)).unwrap().backend, Backend::Kvm);
    }

    #[test]
    fn without_kvm_auto_says_why_and_kvm_is_an_error() {
        let auto = judge(Backend::Auto, Err("not loaded".to_owned())).unwrap();
        assert_eq!(auto.backend, Backend::Soft);
        assert!(auto.reason.unwrap().contains("not loaded"));
        assert!(judge(Backend::Kvm, Err("not loaded".to_owned())).is_err());
    }
}
