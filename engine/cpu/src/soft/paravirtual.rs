//! What a guest that knows it is one gets from KVM's interface (Linux, Documentation/virt/kvm/x86/msr.rst and
//! cpuid.rst): the paravirtual clock, and hypercalls, of which there are none. The clock is the time-stamp counter
//! with its scale: it stops and slows with guest time, and is written once, since nothing about it ever drifts.
//! Left out on purpose: end of interrupt, asynchronous page faults, steal time.

use iced_x86::{Instruction, Mnemonic};

use crate::soft::fault::{ColdHandler, Fallible, Flow};
use crate::soft::memory::Place;
use crate::soft::model::Feature;
use crate::soft::state::Cpu;

/// MSR_KVM_WALL_CLOCK.
pub const OLD_WALL_CLOCK: u32 = 0x11;
/// MSR_KVM_SYSTEM_TIME.
pub const OLD_SYSTEM_TIME: u32 = 0x12;
/// MSR_KVM_WALL_CLOCK_NEW.
pub const WALL_CLOCK: u32 = 0x4B56_4D00;
/// MSR_KVM_SYSTEM_TIME_NEW.
pub const SYSTEM_TIME: u32 = 0x4B56_4D01;

/// EAX of the feature leaf: both pairs of clock registers, no delay after port accesses, and that time-stamps
/// of all processors agree.
pub const FEATURES: u32 = 1 | 1 << 1 | 1 << 3 | 1 << 24;

/// In MSR_KVM_SYSTEM_TIME: the clock is on.
const ENABLE: u64 = 1;
/// In the clock's flags: time-stamps of all processors agree.
const TSC_STABLE: u8 = 1;
const NO_SUCH_CALL: i64 = -1000;
const NOT_PERMITTED: i64 = -1;
const NANOSECONDS: u64 = 1_000_000_000;

/// The cold handler of a hypercall.
pub fn handler(instruction: &Instruction) -> Option<ColdHandler> {
    matches!(instruction.mnemonic(), Mnemonic::Vmcall | Mnemonic::Vmmcall).then_some(hypercall)
}

fn hypercall(cpu: &mut Cpu, _: &Instruction) -> Fallible<Flow> {
    cpu.require(Feature::Hypervisor)?;
    let answer = (if cpu.cpl == 0 { NO_SUCH_CALL } else { NOT_PERMITTED }) as u64;
    cpu.general[0] = if cpu.is_64_bit() { answer } else { answer & 0xFFFF_FFFF };
    Ok(Flow::Next)
}

/// Nanoseconds are (ticks << shift) * multiplier >> 32; the shift may be negative.
fn scale(hz: u64) -> (u32, i8) {
    let at = |shift: i8| (u128::from(NANOSECONDS) << (64 - shift)) / (u128::from(hz) << 32);
    let shift = (-31..=31).find(|&shift| at(shift) <= u128::from(u32::MAX)).unwrap_or(31);
    (at(shift) as u32, shift)
}

impl Cpu {
    /// Writes to guest-physical memory within one page; nowhere if there is no RAM, or it ends before.
    fn write_paravirtual(&mut self, physical: u64, bytes: &[u8]) {
        let host = self.bus().page(physical);
        if !host.write.is_null() && (physical & 0xFFF) as usize + bytes.len() <= 0x1000 {
            self.write_place(Place { physical, host }, bytes);
        }
    }

    /// Fills a structure that begins with a version, which is odd while the rest is not valid.
    fn publish(&mut self, physical: u64, rest: &[u8]) {
        let host = self.bus().page(physical);
        if host.read.is_null() || physical & 3 != 0 {
            return;
        }
        let mut version = [0; 4];
        self.read_place(Place { physical, host }, &mut version);
        let version = u32::from_le_bytes(version);
        let odd = version.wrapping_add(1) | 1;
        self.write_paravirtual(physical, &odd.to_le_bytes());
        self.write_paravirtual(physical + 4, rest);
        self.write_paravirtual(physical, &odd.wrapping_add(1).to_le_bytes());
    }

    /// MSR_KVM_WALL_CLOCK: `struct pvclock_wall_clock` tells the wall time at system time 0.
    pub(super) fn set_paravirtual_wall_clock(&mut self, physical: u64) {
        self.msrs.kvm_wall_clock = physical;
        let wall_ns = self.bus().wall_clock_at_zero_ns();
        let words = [wall_ns / NANOSECONDS, wall_ns % NANOSECONDS].map(|word| (word as u32).to_le_bytes());
        self.publish(physical, words.as_flattened());
    }

    /// MSR_KVM_SYSTEM_TIME: where `struct pvclock_vcpu_time_info` is.
    pub(super) fn set_paravirtual_clock(&mut self, value: u64) {
        self.msrs.kvm_system_time = value;
        self.update_paravirtual_clock();
    }

    /// The clock's structure anew, if it is on: after the time-stamp offset changed.
    pub(super) fn update_paravirtual_clock(&mut self) {
        let place = self.msrs.kvm_system_time;
        if place & ENABLE == 0 {
            return;
        }
        let (multiplier, shift) = scale(self.bus().timestamp_hz());
        // System time is 0 when the time-stamp before the offset is.
        let mut rest = [0; 28];
        rest[4..12].copy_from_slice(&self.msrs.tsc_offset.to_le_bytes());
        rest[20..24].copy_from_slice(&multiplier.to_le_bytes());
        rest[24] = shift as u8;
        rest[25] = TSC_STABLE;
        self.publish(place & !ENABLE, &rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soft::fault::Fault;
    use crate::soft::model::{CpuModel, Model};
    use crate::soft::testing::{TestBus, machine};

    fn clock() -> (Box<Cpu>, TestBus) {
        let (mut cpu, bus) = machine(4);
        cpu.model = Model::new(CpuModel::X86_64V1, 0, 1, NANOSECONDS);
        (cpu, bus)
    }

    /// What a guest computes from the structure.
    fn system_time_ns(bus: &TestBus, at: u64, timestamp: u64) -> u64 {
        let ticks = timestamp.wrapping_sub(bus.get64(at + 8));
        let shift = bus.get(at + 28, 1)[0] as i8;
        let shifted = if shift < 0 { ticks >> -shift } else { ticks << shift };
        let scaled = (u128::from(shifted) * u128::from(bus.get32(at + 24))) >> 32;
        bus.get64(at + 16) + scaled as u64
    }

    #[test]
    fn the_clock_is_the_time_stamp_and_follows_its_offset() {
        let (mut cpu, bus) = clock();
        cpu.with_bus(&bus, |cpu| {
            for msr in [OLD_SYSTEM_TIME, SYSTEM_TIME] {
                cpu.write_msr(msr, 0x1001).unwrap();
                assert_eq!(cpu.read_msr(msr), Some(0x1001));
                assert_eq!(bus.get(0x101D, 1), [TSC_STABLE]);
                assert_eq!(system_time_ns(&bus, 0x1000, 12_345), 12_345);
            }
            let version = bus.get32(0x1000);
            assert!(version != 0 && version & 1 == 0);
            cpu.write_msr(0x10, 5_000_000).unwrap();
            assert_eq!(bus.get32(0x1000), version + 2);
            let (offset, now) = (cpu.msrs.tsc_offset, cpu.timestamp());
            assert_eq!(system_time_ns(&bus, 0x1000, now), now - offset);
            cpu.write_msr(SYSTEM_TIME, 0).unwrap();
            cpu.write_msr(0x10, 0).unwrap();
            assert_eq!(bus.get32(0x1000), version + 2, "off");
            // Not RAM, over a page's end, not aligned: nothing is written, nobody minds.
            for place in [0x1_0000_0001, 0x1FF1, 0x1003] {
                cpu.write_msr(SYSTEM_TIME, place).unwrap();
            }
        });
        assert_eq!(bus.get32(0x2000), 0);
    }

    #[test]
    fn the_wall_clock_tells_when_system_time_was_zero() {
        let (mut cpu, bus) = clock();
        bus.wall_clock_ns.set(1_700_000_000_000_000_042);
        cpu.with_bus(&bus, |cpu| cpu.write_msr(WALL_CLOCK, 0x1100)).unwrap();
        assert_eq!((bus.get32(0x1104), bus.get32(0x1108)), (1_700_000_000, 42));
        assert_eq!(bus.get32(0x1100), 2);
    }

    #[test]
    fn any_frequency_has_a_scale_with_all_its_bits() {
        for hz in [1_000_000, 999_999_999, NANOSECONDS, 2_893_000_000, 1 << 40] {
            let (multiplier, shift) = scale(hz);
            let scaled = |ticks: u64| {
                let ticks = if shift < 0 { ticks >> -shift } else { ticks << shift };
                ((u128::from(ticks) * u128::from(multiplier)) >> 32) as u64
            };
            assert!(multiplier >= 1 << 31, "{hz}");
            assert!(scaled(hz).abs_diff(NANOSECONDS) <= 2, "{hz}: {}", scaled(hz));
        }
    }

    #[test]
    fn the_interface_is_there_only_where_a_hypervisor_is_told_of() {
        let (mut cpu, bus) = clock();
        cpu.with_bus(&bus, |cpu| {
            let call = |cpu: &mut Cpu| hypercall(cpu, &Instruction::default());
            call(cpu).unwrap();
            assert_eq!(cpu.general[0], 0xFFFF_FC18);
            cpu.cpl = 3;
            call(cpu).unwrap();
            assert_eq!(cpu.general[0], 0xFFFF_FFFF);
            cpu.model = Model::new(CpuModel::Pentium3, 0, 1, NANOSECONDS);
            assert_eq!(call(cpu), Err(Fault::invalid_opcode()));
            assert_eq!(cpu.read_msr(SYSTEM_TIME), None);
            assert!(cpu.write_msr(OLD_WALL_CLOCK, 0).is_err());
        });
    }
}
