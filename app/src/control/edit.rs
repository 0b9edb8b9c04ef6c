//! Changes from outside: `set KEY=VALUE` and writes to memory. All of one request is done, or nothing.

use std::time::Duration;

use cpu::Registers;
use engine::inspect::{self, compare};
use engine::network::Conditions;
use engine::profile::{LostTicks, Size};
use engine::resources::{OVERCOMMIT_PERCENT, Resource, Resources, Throttles};
use engine::scheduler::{Allotment, QUANTUM_LIMITS, Scheduler};
use engine::session::Session;

use super::command::number;
use super::execute::latest;
use crate::running::Running;
use crate::search;

/// Longest write to memory, in bytes.
const MOST_BYTES: usize = 1 << 16;
/// The smallest page: within it, linear memory is physical memory in a row.
const PAGE: u64 = 4096;
/// Longest that a frame may be on its way, in milliseconds.
const LATENCY_MAX_MS: f64 = 10_000.0;

/// What one `set` asks for, gathered.
#[derive(Default)]
struct Plan {
    registers: Option<Registers>,
    allotment: Option<Allotment>,
    quantum: Option<Duration>,
    time_rate: Option<f64>,
    throttles: Option<Throttles>,
    lost_ticks: Option<LostTicks>,
    line: Option<Conditions>,
    ledger: Vec<LedgerChange>,
    /// From 0 to 1.
    volume: Option<f32>,
    muted: Option<bool>,
}

/// A change of the host's ledger.
enum LedgerChange {
    Memory(u64),
    Floor(u64),
    Overcommit(u32),
    Capacity(Resource, Option<u64>),
}

/// Makes all changes, or none and says which is wrong.
pub fn set(machine: &dyn Running, cpu: usize, changes: &[String]) -> Result<(), String> {
    let mut plan = Plan::default();
    for change in changes {
        let (key, value) = change
            .split_once('=')
            .ok_or_else(|| format!("'{change}': write KEY=VALUE, for example shares=512"))?;
        plan.add(machine, cpu, &key.to_ascii_lowercase(), value)?;
    }
    let before = plan.inverse(machine, cpu);
    plan.carry_out(machine, cpu).inspect_err(|_| {
        // What was changed before the one that is refused; it was possible a moment ago.
        let _ = before.carry_out(machine, cpu);
    })
}

impl LedgerChange {
    /// What takes it back; `None` for a machine that does not run.
    fn inverse(&self, machine: &dyn Running) -> Option<LedgerChange> {
        let resources = Resources::global();
        let grant = || Some(resources.grant(machine.id()?)?.memory);
        Some(match self {
            LedgerChange::Memory(_) => LedgerChange::Memory(grant()?.now_bytes),
            LedgerChange::Floor(_) => LedgerChange::Floor(grant()?.floor_bytes),
            LedgerChange::Overcommit(_) => LedgerChange::Overcommit(resources.report().overcommit_percent),
            LedgerChange::Capacity(resource, _) => {
                let lines = resources.report().lines;
                let line = lines.iter().find(|line| line.resource == *resource)?;
                LedgerChange::Capacity(*resource, line.capacity)
            }
        })
    }

    fn make(self, machine: &dyn Running) -> Result<(), String> {
        let resources = Resources::global();
        let id = || machine.id().ok_or("the machine does not run");
        match self {
            LedgerChange::Memory(bytes) => resources.set_memory_now(id()?, bytes),
            LedgerChange::Floor(bytes) => resources.set_floor(id()?, bytes),
            LedgerChange::Overcommit(percent) => {
                resources.set_overcommit_percent(percent);
                Ok(())
            }
            LedgerChange::Capacity(resource, amount) => {
                resources.set_capacity(resource, amount);
                Ok(())
            }
        }
        .map_err(|error| error.to_string())
    }
}

impl Plan {
    /// What takes it back, as far as something after it can be refused.
    fn inverse(&self, machine: &dyn Running, cpu: usize) -> Plan {
        let ledger = self.ledger.iter().rev();
        Plan {
            registers: self.registers.as_ref().and_then(|_| Some((*machine.registers(cpu)?).clone())),
            allotment: self.allotment.map(|_| machine.allotment()),
            time_rate: self.time_rate.map(|_| machine.time_rate()),
            lost_ticks: self.lost_ticks.map(|_| machine.lost_ticks()),
            throttles: self.throttles.as_ref().map(|_| machine.throttles()),
            ledger: ledger.filter_map(|change| change.inverse(machine)).collect(),
            ..Plan::default()
        }
    }

    /// Makes the changes, those of the ledger in their order; ends at the first that is refused.
    fn carry_out(self, machine: &dyn Running, cpu: usize) -> Result<(), String> {
        if let Some(registers) = self.registers {
            machine.set_registers(cpu, registers)?;
        }
        if let Some(allotment) = self.allotment {
            machine.allot(allotment)?;
        }
        if let Some(rate) = self.time_rate {
            machine.set_time_rate(rate)?;
        }
        if let Some(policy) = self.lost_ticks {
            machine.set_lost_ticks(policy)?;
        }
        if let Some(throttles) = self.throttles {
            machine.throttle(throttles)?;
        }
        self.ledger.into_iter().try_for_each(|change| change.make(machine))?;
        if let (Some(conditions), Some(session)) = (self.line, machine.session()) {
            session.set_line(conditions);
        }
        if let Some(volume) = self.volume {
            machine.set_volume(None, volume);
        }
        if let Some(muted) = self.muted {
            machine.set_muted(None, muted);
        }
        if let Some(quantum) = self.quantum {
            Scheduler::global().set_quantum(quantum);
        }
        Ok(())
    }

    fn add(&mut self, machine: &dyn Running, cpu: usize, key: &str, value: &str) -> Result<(), String> {
        let whole = |value: &str| {
            value.parse::<u32>().map_err(|_| format!("{key} needs a whole number, not '{value}'"))
        };
        match key {
            "shares" | "cap" | "reservation" => {
                let allotment = self.allotment.get_or_insert_with(|| machine.allotment());
                match key {
                    "shares" => allotment.shares = whole(value)?,
                    "cap" if value == "none" => allotment.cap_percent = None,
                    "cap" => allotment.cap_percent = Some(whole(value)?),
                    _ => allotment.reservation_percent = whole(value)?,
                }
                allotment.check(machine.cpus() as u32).map_err(|error| error.to_string())
            }
            "quantum" => {
                let (least, most) =
                    (QUANTUM_LIMITS.0.as_secs_f64() * 1e3, QUANTUM_LIMITS.1.as_secs_f64() * 1e3);
                let milliseconds = value.parse::<f64>().ok().filter(|ms| (least..=most).contains(ms));
                let milliseconds = milliseconds
                    .ok_or_else(|| format!("quantum is {least} to {most} milliseconds, not '{value}'"))?;
                self.quantum = Some(Duration::from_secs_f64(milliseconds / 1e3));
                Ok(())
            }
            "disk-iops" | "disk-rate" | "network-rate" => {
                let bound = Some(value).filter(|value| *value != "none");
                let throttles = self.throttles.get_or_insert_with(|| machine.throttles());
                match key {
                    "disk-iops" => throttles.disk_operations = bound.map(whole).transpose()?,
                    "disk-rate" => throttles.disk_bytes = bound.map(str::parse).transpose()?,
                    _ => throttles.network_bytes = bound.map(str::parse).transpose()?,
                }
                throttles.check().map_err(|error| error.to_string())
            }
            "network-latency" | "network-jitter" | "network-loss" => self.shape(machine, key, value),
            "ticks" => {
                self.lost_ticks = Some(value.parse()?);
                Ok(())
            }
            "memory" | "floor" => {
                let bytes = value.parse::<Size>()?.bytes();
                self.ledger.push(if key == "memory" {
                    LedgerChange::Memory(bytes)
                } else {
                    LedgerChange::Floor(bytes)
                });
                Ok(())
            }
            "overcommit" => {
                let percent = whole(value)?;
                if !OVERCOMMIT_PERCENT.contains(&percent) {
                    let (least, most) = (OVERCOMMIT_PERCENT.start(), OVERCOMMIT_PERCENT.end());
                    return Err(format!("overcommit is {least} to {most} percent, not {percent}"));
                }
                self.ledger.push(LedgerChange::Overcommit(percent));
                Ok(())
            }
            "host-disk-iops" | "host-disk-rate" | "host-network-rate" => {
                let resource = match key {
                    "host-disk-iops" => Resource::DiskOperations,
                    "host-disk-rate" => Resource::DiskBytes,
                    _ => Resource::NetworkBytes,
                };
                let amount = match (value, resource) {
                    ("none", _) => None,
                    (_, Resource::DiskOperations) => Some(whole(value)?.into()),
                    _ => Some(value.parse::<Size>()?.bytes()),
                };
                if amount == Some(0) {
                    return Err(format!("{key} is more than 0, or none"));
                }
                self.ledger.push(LedgerChange::Capacity(resource, amount));
                Ok(())
            }
            "time" => {
                self.time_rate = Some(
                    value
                        .parse()
                        .map_err(|_| format!("time needs a rate, for example 0.5, not '{value}'"))?,
                );
                Ok(())
            }
            "volume" => {
                let percent = whole(value)?;
                if percent > 100 {
                    return Err(format!("volume is 0 to 100 percent, not '{value}'"));
                }
                self.volume = Some(percent as f32 / 100.0);
                Ok(())
            }
            "mute" => {
                self.muted = Some(match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(format!("mute is on or off, not '{value}'")),
                });
                Ok(())
            }
            _ => {
                let latest = latest(machine, cpu)?;
                let registers = self.registers.get_or_insert_with(|| (*latest).clone());
                if !compare::assign(registers, key, number(value)?)? {
                    return Err(unknown(key));
                }
                // Bit 1 of RFLAGS is always set.
                registers.rflags |= 2;
                Ok(())
            }
        }
    }

    /// Makes the network's line worse or better.
    fn shape(&mut self, machine: &dyn Running, key: &str, value: &str) -> Result<(), String> {
        let (unit, most) =
            if key == "network-loss" { ("percent", 100.0) } else { ("milliseconds", LATENCY_MAX_MS) };
        let amount = value.parse::<f64>().ok().filter(|amount| (0.0..=most).contains(amount));
        let amount = amount.ok_or_else(|| format!("{key} is 0 to {most} {unit}, not '{value}'"))?;
        let now = machine.session().and_then(Session::line);
        let line = match &mut self.line {
            Some(line) => line,
            line => line.insert(now.ok_or("the machine has no network card")?),
        };
        match key {
            "network-latency" => line.latency_us = (amount * 1e3).round() as u32,
            "network-jitter" => line.jitter_us = (amount * 1e3).round() as u32,
            _ => line.lost_per_million = (amount * 1e4).round() as u32,
        }
        Ok(())
    }
}

/// Whether these changes are of the host's resources: then it is the same which machine is asked.
pub fn are_of_host(changes: &[String]) -> bool {
    let key = |change: &String| change.split('=').next().unwrap_or_default().to_ascii_lowercase();
    changes.iter().map(key).all(|key| key == "overcommit" || key == "quantum" || key.starts_with("host-"))
}

fn unknown(key: &str) -> String {
    format!(
        "'{key}' cannot be set; what can: shares, cap, reservation, quantum, time, ticks, memory, floor, disk-iops, \
         disk-rate, network-rate, network-latency, network-jitter, network-loss, volume, mute, overcommit, host-disk-iops, host-disk-rate, host-network-rate, and the \
         registers as `registers --compare` names them: rax, rip, rflags, cr0, efer, dr7, cs, cs.base, idtr.limit, \
         msrs.star, fpu.ymm[0][1] and so on"
    )
}

/// Bytes given in hexadecimal.
fn bytes_of(hex: &str) -> Result<Vec<u8>, String> {
    let bytes =
        search::hexadecimal(hex).ok_or_else(|| format!("'{hex}' are no bytes; write for example 90f4"))?;
    if bytes.is_empty() || bytes.len() > MOST_BYTES {
        return Err(format!("{} bytes are outside 1 to {MOST_BYTES}", bytes.len()));
    }
    Ok(bytes)
}

/// Writes bytes given in hexadecimal to guest-physical memory.
pub fn write(machine: &dyn Running, address: u64, hex: &str) -> Result<(), String> {
    machine.write_memory(address, bytes_of(hex)?)
}

/// Writes bytes given in hexadecimal at a linear address of a vCPU: all of them, or none.
pub fn write_linear(machine: &dyn Running, cpu: usize, address: u64, hex: &str) -> Result<(), String> {
    let (bytes, registers) = (bytes_of(hex)?, latest(machine, cpu)?);
    let mut parts: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let at = address.wrapping_add((bytes.len() - rest.len()) as u64);
        let (part, after) = rest.split_at(((PAGE - at % PAGE) as usize).min(rest.len()));
        let physical = inspect::walk(&registers, machine.memory(), at).physical();
        let physical =
            physical.filter(|place| machine.memory().read(*place, &mut vec![0; part.len()]) == part.len());
        parts.push((physical.ok_or_else(|| format!("no memory is mapped at {at:#x}"))?, part.to_vec()));
        rest = after;
    }
    parts.into_iter().try_for_each(|(place, part)| machine.write_memory(place, part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::fake::Fake;

    fn set(fake: &Fake, changes: &[&str]) -> Result<(), String> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        super::set(fake, 0, &changes)
    }

    #[test]
    fn registers_change_only_while_the_machine_stands_still() {
        let fake = Fake::new("one");
        assert!(set(&fake, &["rip=0x1000"]).unwrap_err().contains("pause"));
        fake.pause();
        set(&fake, &["rip=0x1000", "RAX=7"]).unwrap();
        let registers = fake.registers(0).unwrap();
        assert_eq!((registers.rip, registers.general[0]), (0x1000, 7));
    }

    #[test]
    fn one_wrong_change_makes_none() {
        let fake = Fake::new("one");
        fake.pause();
        for wrong in ["shares=0", "cap=400", "colour=red", "rip=here", "nothing", "quantum=5000"] {
            assert!(set(&fake, &["rax=1", "shares=7", wrong]).is_err(), "{wrong}");
        }
        assert_eq!((fake.registers(0).unwrap().general[0], fake.allotment()), (0, Allotment::default()));
        set(&fake, &["shares=7", "cap=50"]).unwrap();
        assert_eq!(fake.allotment(), Allotment { shares: 7, cap_percent: Some(50), reservation_percent: 0 });
    }

    #[test]
    fn rates_are_bounded_and_freed() {
        let fake = Fake::new("one");
        set(&fake, &["disk-iops=200", "disk-rate=10M", "network-rate=1M"]).unwrap();
        let bounds = Throttles {
            disk_operations: Some(200),
            disk_bytes: Some(Size::mib(10)),
            network_bytes: Some(Size::mib(1)),
        };
        assert_eq!(fake.throttles(), bounds);
        set(&fake, &["ticks=replay"]).unwrap();
        assert_eq!(fake.lost_ticks(), LostTicks::Replay);
        set(&fake, &["disk-rate=none"]).unwrap();
        assert_eq!(fake.throttles(), Throttles { disk_bytes: None, ..bounds });
        for wrong in ["ticks=slew", "disk-iops=0", "network-rate=much", "overcommit=5", "memory=x"] {
            assert!(set(&fake, &[wrong]).is_err(), "{wrong}");
        }
        assert!(set(&fake, &["floor=64M"]).unwrap_err().contains("does not run"));
    }

    #[test]
    fn volume_and_mute_are_set() {
        let fake = Fake::new("one");
        for wrong in ["volume=101", "volume=loud", "mute=yes"] {
            assert!(set(&fake, &["volume=10", wrong]).is_err(), "{wrong}");
        }
        assert_eq!((fake.sound().volume, fake.sound().muted), (1.0, false));
        set(&fake, &["volume=40", "mute=on"]).unwrap();
        assert_eq!((fake.sound().volume, fake.sound().muted), (0.4, true));
    }

    #[test]
    fn a_change_that_is_refused_at_last_takes_the_others_back() {
        let fake = Fake::new("one");
        fake.pause();
        // It is in no ledger, which is found out only when everything else was done.
        let refused =
            set(&fake, &["rax=7", "shares=7", "time=0.5", "ticks=replay", "floor=64M"]).unwrap_err();
        assert!(refused.contains("does not run"), "{refused}");
        assert_eq!((fake.registers(0).unwrap().general[0], fake.allotment()), (0, Allotment::default()));
        assert_eq!((fake.time_rate(), fake.lost_ticks()), (1.0, LostTicks::Merge));
        let percent = || Resources::global().report().overcommit_percent;
        let before = percent();
        assert!(set(&fake, &["overcommit=777", "host-disk-iops=5", "floor=64M"]).is_err());
        assert_eq!(percent(), before);
        let disk = |line: &&engine::resources::Line| line.resource == Resource::DiskOperations;
        assert_eq!(Resources::global().report().lines.iter().find(disk).unwrap().capacity, None);
    }

    #[test]
    fn every_part_of_the_state_has_a_name() {
        let fake = Fake::new("one");
        fake.pause();
        set(&fake, &["cs.base=0x10000", "ES=0x20", "idtr.limit=0x3ff", "fpu.ymm[1][0]=5", "xcr0=1"]).unwrap();
        let registers = fake.registers(0).unwrap();
        assert_eq!((registers.segments[1].base, registers.segments[0].selector), (0x1_0000, 0x20));
        assert_eq!((registers.idtr.limit, registers.fpu.ymm[1][0]), (0x3FF, 5));
        assert!(set(&fake, &["es=0x10000"]).unwrap_err().contains("es.selector"));
    }

    #[test]
    fn bytes_go_where_each_page_lies() {
        let fake = Fake::new("one");
        fake.pause();
        // 32-bit paging: the first two pages of memory, the other way round.
        let entry = |page: u64| ((page << 12 | 3) as u32).to_le_bytes();
        fake.set_memory(0x4000, &entry(5));
        fake.set_memory(0x5000, &[entry(1), entry(0), [0; 4]].concat());
        fake.set_registers(|registers| (registers.cr0, registers.cr3) = (0x8000_0011, 0x4000));
        write_linear(&*fake, 0, 0xFFE, "11 22 33 44").unwrap();
        let mut bytes = [0; 2];
        fake.memory().read(0x1FFE, &mut bytes);
        assert_eq!(bytes, [0x11, 0x22]);
        fake.memory().read(0, &mut bytes);
        assert_eq!(bytes, [0x33, 0x44]);
        assert!(write_linear(&*fake, 0, 0x1FFF, "55 66").unwrap_err().contains("0x2000"));
        fake.memory().read(0xFFF, &mut bytes[..1]);
        assert_eq!(bytes[0], 0, "none of it");
    }

    #[test]
    fn bytes_are_written_whole_or_not_at_all() {
        let fake = Fake::new("one");
        fake.pause();
        assert!(write(&*fake, 0, "9").is_err());
        assert!(write(&*fake, 0, "zz").is_err());
        write(&*fake, 0x500, "90 f4").unwrap();
        let mut bytes = [0; 2];
        assert_eq!(fake.memory().read(0x500, &mut bytes), 2);
        assert_eq!(bytes, [0x90, 0xF4]);
    }
}
