//! Changes from outside: `set KEY=VALUE` and writes to memory. Everything is checked before anything changes.

use std::time::Duration;

use cpu::Registers;
use engine::network::Conditions;
use engine::profile::{LostTicks, Size};
use engine::resources::{OVERCOMMIT_PERCENT, Resource, Resources, Throttles};
use engine::scheduler::{Allotment, QUANTUM_LIMITS, Scheduler};
use engine::session::Session;

use super::command::number;
use super::execute::latest;
use crate::names;
use crate::running::Running;

/// Longest write to memory, in bytes.
const MOST_BYTES: usize = 1 << 16;

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
    let Plan { registers, allotment, quantum, time_rate, throttles, lost_ticks, line, ledger, volume, muted } =
        plan;
    if let Some(registers) = registers {
        machine.set_registers(cpu, registers)?;
    }
    if let Some(allotment) = allotment {
        machine.allot(allotment)?;
    }
    if let Some(rate) = time_rate {
        machine.set_time_rate(rate)?;
    }
    if let Some(policy) = lost_ticks {
        machine.set_lost_ticks(policy)?;
    }
    if let Some(throttles) = throttles {
        machine.throttle(throttles)?;
    }
    if let (Some(conditions), Some(session)) = (line, machine.session()) {
        session.set_line(conditions);
    }
    ledger.into_iter().try_for_each(|change| change.make(machine))?;
    if let Some(volume) = volume {
        machine.set_volume(None, volume);
    }
    if let Some(muted) = muted {
        machine.set_muted(None, muted);
    }
    if let Some(quantum) = quantum {
        Scheduler::global().set_quantum(quantum);
    }
    Ok(())
}

impl LedgerChange {
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
                let place = register(registers, key).ok_or_else(|| unknown(key))?;
                *place = number(value)?;
                // Bit 1 of RFLAGS is always set.
                registers.rflags |= 2;
                Ok(())
            }
        }
    }
}

impl Plan {
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

fn unknown(key: &str) -> String {
    format!(
        "'{key}' cannot be set; what can: shares, cap, reservation, quantum, time, ticks, memory, floor, disk-iops, \
         disk-rate, network-rate, network-latency, network-jitter, network-loss, volume, mute, overcommit, host-disk-iops, host-disk-rate, host-network-rate, and the registers \
         rax to r15, rip, rflags, cr0, cr2, cr3, cr4, efer, dr0 to dr3, dr6, dr7"
    )
}

/// Where a register of this name lies.
fn register<'a>(registers: &'a mut Registers, name: &str) -> Option<&'a mut u64> {
    if let Some(index) = names::GENERAL.iter().position(|general| general.eq_ignore_ascii_case(name)) {
        return Some(&mut registers.general[index]);
    }
    Some(match name {
        "rip" => &mut registers.rip,
        "rflags" => &mut registers.rflags,
        "cr0" => &mut registers.cr0,
        "cr2" => &mut registers.cr2,
        "cr3" => &mut registers.cr3,
        "cr4" => &mut registers.cr4,
        "efer" => &mut registers.efer,
        "dr0" => &mut registers.debug[0],
        "dr1" => &mut registers.debug[1],
        "dr2" => &mut registers.debug[2],
        "dr3" => &mut registers.debug[3],
        "dr6" => &mut registers.debug[4],
        "dr7" => &mut registers.debug[5],
        _ => return None,
    })
}

/// Writes bytes given in hexadecimal.
pub fn write(machine: &dyn Running, address: u64, hex: &str) -> Result<(), String> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
        u8::from_str_radix(text, 16).ok()
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let bytes = bytes.ok_or_else(|| format!("'{hex}' are no bytes; write for example 90f4"))?;
    if bytes.is_empty() || bytes.len() > MOST_BYTES {
        return Err(format!("{} bytes are outside 1 to {MOST_BYTES}", bytes.len()));
    }
    machine.write_memory(address, bytes)
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
