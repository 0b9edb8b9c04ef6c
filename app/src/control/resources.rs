//! The host's ledger and the transfers, for `ctl`: they concern several machines, or none.

use std::fmt::Write;

use engine::profile::Size;
use engine::resources::{Goods, MachineId, MachineReport, Resource, Resources, Transfer};
use serde_json::json;

use super::command::{Movable, Switch};
use super::{Answer, Command, Registry};

/// Does what concerns the host's resources; `None` for other commands.
pub fn execute(registry: &Registry, command: &Command) -> Option<Result<Answer, String>> {
    let resources = Resources::global();
    let told = |error: engine::resources::TransferError| error.to_string();
    Some(match command {
        Command::Move { what, amount, donor, receiver, .. } => {
            begin(registry, *what, amount, donor, receiver).and_then(|number| one(resources, number))
        }
        Command::Undo { number } => {
            resources.undo(*number).map_err(told).and_then(|number| one(resources, number))
        }
        Command::Cancel { number } => {
            resources.cancel(*number).map_err(told).and_then(|()| one(resources, *number))
        }
        Command::Moves => {
            let transfers = resources.transfers();
            let lines: Vec<String> = transfers.iter().map(line).collect();
            Answer::new(lines.join("\n"), transfers)
        }
        Command::Ledger => ledger(resources),
        Command::Policy { what } => {
            match what {
                Switch::On => resources.set_policy(true),
                Switch::Off => resources.set_policy(false),
                Switch::Status => {}
            }
            policy(resources)
        }
        _ => return None,
    })
}

fn begin(
    registry: &Registry,
    what: Movable,
    amount: &str,
    donor: &str,
    receiver: &str,
) -> Result<u64, String> {
    let goods = goods(what, amount)?;
    let id = |name: &str| -> Result<MachineId, String> {
        let (name, machine) = registry.find(Some(name))?;
        machine.id().ok_or_else(|| format!("{name} does not run"))
    };
    let (donor, receiver) = (id(donor)?, id(receiver)?);
    Resources::global().transfer(donor, receiver, goods).map_err(|error| error.to_string())
}

/// What is to move: an amount as people write it.
fn goods(what: Movable, amount: &str) -> Result<Goods, String> {
    let size = || amount.parse::<Size>().map(|size| size.bytes());
    let whole = |text: &str| text.parse::<u32>().map_err(|_| format!("'{amount}' is no whole number"));
    Ok(match what {
        Movable::Memory => Goods::Memory(size()?),
        Movable::Shares => Goods::Shares(whole(amount)?),
        Movable::Network => Goods::NetworkBytes(size()?),
        Movable::Disk => match amount.to_ascii_lowercase().strip_suffix("iops") {
            Some(number) => Goods::DiskOperations(whole(number)?),
            None => Goods::DiskBytes(size()?),
        },
    })
}

/// The same, as it is written behind `ctl move`.
pub fn words(goods: Goods) -> String {
    match goods {
        Goods::Memory(bytes) => format!("memory {}", Size::of_bytes(bytes)),
        Goods::Shares(shares) => format!("shares {shares}"),
        Goods::DiskOperations(accesses) => format!("disk {accesses}iops"),
        Goods::DiskBytes(bytes) => format!("disk {}", Size::of_bytes(bytes)),
        Goods::NetworkBytes(bytes) => format!("network {}", Size::of_bytes(bytes)),
    }
}

fn one(resources: &Resources, number: u64) -> Result<Answer, String> {
    let transfer = resources.transfer_numbered(number).ok_or("the transfer is too long ago")?;
    Answer::new(line(&transfer), &transfer)
}

/// A transfer in a line.
fn line(transfer: &Transfer) -> String {
    let Transfer { number, goods, donor, receiver, state, .. } = transfer;
    let mut text = format!(
        "{number:>4}  {goods} from {} to {}: {}, {:.0} %, {:.2} s",
        donor.name,
        receiver.name,
        state.word(),
        transfer.progress() * 100.0,
        transfer.lasted_ns() as f64 / 1e9
    );
    if !transfer.outcome.is_empty() {
        let _ = write!(text, ". {}", transfer.outcome);
    }
    if matches!(goods, Goods::Memory(_)) && state.is_over() {
        let spent = |party: &engine::resources::Party| {
            format!("{} {} -> {}", party.name, bytes(party.spent_before_bytes), bytes(party.spent_bytes))
        };
        let _ = write!(text, ". The host spends: {}, {}", spent(donor), spent(receiver));
    }
    if let Some(original) = transfer.undo_of {
        let _ = write!(text, ". It takes back {original}");
    }
    if let Some(reason) = &transfer.reason {
        let _ = write!(text, ". Why: {reason}");
    }
    text
}

fn policy(resources: &Resources) -> Result<Answer, String> {
    let report = resources.policy();
    let names = resources.report().machines;
    let name = |id: MachineId| {
        names.iter().find(|machine| machine.id == id).map_or("an ended machine", |machine| &machine.name)
    };
    let mut text = format!("the policy is {}", if report.is_on { "on" } else { "off" });
    for decision in &report.decisions {
        let came = match &decision.result {
            Ok(number) => format!("transfer {number}"),
            Err(reason) => format!("not done: {reason}"),
        };
        let _ = write!(
            text,
            "\n{:>8.1} s  {} from {} to {}: {} ({came})",
            decision.at_ns as f64 / 1e9,
            decision.goods,
            name(decision.donor),
            name(decision.receiver),
            decision.reason
        );
    }
    Answer::new(text, report)
}

fn ledger(resources: &Resources) -> Result<Answer, String> {
    let report = resources.report();
    let mut text = format!(
        "{:<14} {:>18} {:>18} {:>18} {:>18} {:>18}\n",
        "resource", "may be granted", "granted", "on its way", "free", "used"
    );
    for (line, used) in report.lines.iter().zip(&report.used) {
        let write = |amount: u64| line.resource.write(amount);
        let known = |amount: Option<u64>| amount.map_or("not known".to_owned(), write);
        let _ = write!(
            text,
            "{:<14} {:>18} {:>18} {:>18} {:>18} {:>18}",
            line.resource.name(),
            known(line.limit),
            write(line.granted),
            write(line.held),
            known(line.free),
            write(*used)
        );
        if line.over > 0 {
            let _ = write!(text, "  {} over the limit", write(line.over));
        }
        if line.unbounded > 0 && line.resource != Resource::Processor {
            let _ = write!(text, "  {} without a bound", line.unbounded);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "over-commit limit: {} % of what the host has\n", report.overcommit_percent);
    let _ = writeln!(
        text,
        "{:<16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>9}",
        "memory of", "ceiling", "granted", "floor", "sees", "uses", "host pays", "shares", "cpu %", "waits %"
    );
    report.machines.iter().for_each(|machine| machine_line(&mut text, machine));
    text.push_str(
        "granted: what the guest may touch. sees, uses: as its kernel says. host pays: pages that are really there; \
         free pages a guest has reported are not, so it can be less than what the guest was granted",
    );
    Answer::new(text, json!(report))
}

fn machine_line(text: &mut String, machine: &MachineReport) {
    let MachineReport { name, grant, memory, rates, .. } = machine;
    let told = |bytes: Option<u64>| bytes.map_or("-".to_owned(), self::bytes);
    let _ = writeln!(
        text,
        "{name:<16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8.1} {:>9.1}",
        bytes(grant.memory.ceiling_bytes),
        bytes(grant.memory.charged_bytes),
        bytes(grant.memory.floor_bytes),
        told(memory.seen_bytes),
        told(memory.used_bytes),
        bytes(memory.spent_bytes),
        grant.allotment.shares,
        rates.processor_percent,
        rates.waiting_percent,
    );
    if let Some(reason) = &memory.unable {
        let _ = writeln!(text, "  memory stays where it is: {reason}");
    }
}

fn bytes(amount: u64) -> String {
    engine::resources::amount::bytes(amount)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::running::Running;
    use crate::running::fake::Fake;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(goods(Movable::Memory, "128M"), Ok(Goods::Memory(128 << 20)));
        assert_eq!(goods(Movable::Shares, "100"), Ok(Goods::Shares(100)));
        assert_eq!(goods(Movable::Disk, "500iops"), Ok(Goods::DiskOperations(500)));
        assert_eq!(goods(Movable::Disk, "10M"), Ok(Goods::DiskBytes(10 << 20)));
        assert_eq!(goods(Movable::Network, "1M"), Ok(Goods::NetworkBytes(1 << 20)));
        for (what, written) in [
            (Movable::Memory, "memory 128M"),
            (Movable::Shares, "shares 100"),
            (Movable::Disk, "disk 500iops"),
            (Movable::Disk, "disk 10M"),
            (Movable::Network, "network 1G"),
        ] {
            let amount = written.split_once(' ').unwrap().1;
            assert_eq!(words(goods(what, amount).unwrap()), written);
        }
        assert!(goods(Movable::Shares, "many").is_err() && goods(Movable::Memory, "some").is_err());
    }

    #[test]
    fn who_does_not_run_gives_nothing() {
        let registry = Registry::default();
        let machine: Arc<dyn Running> = Fake::new("one");
        registry.add(&machine);
        let ask = |donor: &str| begin(&registry, Movable::Shares, "1", donor, "one").unwrap_err();
        assert!(ask("two").contains("two"));
        assert!(ask("one").contains("one does not run"));
        assert!(execute(&registry, &Command::Status).is_none());
        let ledger = execute(&registry, &Command::Ledger).unwrap().unwrap();
        assert!(ledger.text.contains("memory") && ledger.json["lines"][1]["resource"] == "memory");
    }
}
