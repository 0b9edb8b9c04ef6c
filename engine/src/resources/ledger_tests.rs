//! The ledger adds up, whatever is done to it.

use proptest::prelude::*;

use super::*;
use crate::profile::Size;

const MIB: u64 = 1 << 20;

fn capacity() -> Capacity {
    Capacity {
        processor: Some(200),
        memory: Some(1024 * MIB),
        disk_operations: Some(1000),
        disk_bytes: Some(100 * MIB),
        network_bytes: None,
    }
}

fn of_memory(bytes: u64) -> Grant {
    let memory = MemoryGrant { ceiling_bytes: bytes, now_bytes: bytes, floor_bytes: 0, charged_bytes: bytes };
    Grant { memory, ..Grant::default() }
}

#[track_caller]
fn adds_up(ledger: &Ledger) {
    for line in ledger.lines() {
        let sum: u64 = ledger.grants.values().filter_map(|grant| grant.of(line.resource)).sum();
        assert_eq!(line.granted, sum, "{line:?}");
        assert_eq!(line.limit.is_some(), line.free.is_some(), "{line:?}");
        if let (Some(limit), Some(free)) = (line.limit, line.free) {
            assert_eq!(line.granted + line.held + free, limit + line.over, "{line:?}");
            assert!(free == 0 || line.over == 0, "{line:?}");
        }
    }
}

#[test]
fn a_start_beyond_the_limit_is_refused_with_the_numbers() {
    let mut ledger = Ledger::new(capacity());
    ledger.grant_to(MachineId(1), "a", of_memory(700 * MIB)).unwrap();
    let refusal = ledger.grant_to(MachineId(2), "b", of_memory(512 * MIB)).unwrap_err();
    let text = refusal.to_string();
    for part in ["b wants 512 MiB of memory", "324 MiB are free", "700 MiB are granted", "1 GiB", "100 %"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(ledger.grant(MachineId(2)).is_none());
    ledger.set_overcommit_percent(150);
    ledger.grant_to(MachineId(2), "b", of_memory(512 * MIB)).unwrap();
    ledger.set_overcommit_percent(100);
    assert_eq!(
        (ledger.line(Resource::Memory).free, ledger.line(Resource::Memory).over),
        (Some(0), 188 * MIB)
    );
    ledger.grant_to(MachineId(2), "b", of_memory(256 * MIB)).expect("less is always possible");
    adds_up(&ledger);
}

#[test]
fn what_is_held_cannot_be_granted_to_another() {
    let mut ledger = Ledger::new(capacity());
    ledger.grant_to(MachineId(1), "a", of_memory(1024 * MIB)).unwrap();
    ledger.observe(MachineId(1), of_memory(896 * MIB).memory);
    ledger.hold(128 * MIB);
    assert!(ledger.grant_to(MachineId(2), "b", of_memory(MIB)).is_err());
    ledger.let_go(128 * MIB);
    ledger.grant_to(MachineId(2), "b", of_memory(128 * MIB)).unwrap();
    adds_up(&ledger);
}

#[test]
fn a_machine_without_a_bound_is_granted_nothing_and_counted() {
    let mut ledger = Ledger::new(capacity());
    ledger.grant_to(MachineId(1), "a", of_memory(MIB)).unwrap();
    let line = ledger.line(Resource::DiskBytes);
    assert_eq!((line.granted, line.unbounded, line.free), (0, 1, Some(100 * MIB)));
    let throttles = Throttles { disk_bytes: Some(Size::mib(101)), ..Throttles::default() };
    let bounded = Grant { throttles, ..of_memory(MIB) };
    assert!(ledger.grant_to(MachineId(1), "a", bounded).unwrap_err().to_string().contains("101 MiB/s"));
}

#[derive(Clone, Debug)]
enum Deed {
    Grant { machine: u64, memory: u64, reserved: u32, operations: Option<u32>, disk: Option<u64> },
    Observe { machine: u64, memory: u64 },
    Strike { machine: u64 },
    Hold(u64),
    LetGo(u64),
    Overcommit(u32),
    Capacity(Option<u64>),
}

fn deed() -> impl Strategy<Value = Deed> {
    let bytes = 0..2048 * MIB;
    prop_oneof![
        (0..4u64, bytes.clone(), 0..150u32, prop::option::of(1..600u32), prop::option::of(1..80u64))
            .prop_map(|(machine, memory, reserved, operations, disk)| Deed::Grant {
                machine,
                memory,
                reserved,
                operations,
                disk
            }),
        (0..4u64, bytes.clone()).prop_map(|(machine, memory)| Deed::Observe { machine, memory }),
        (0..4u64).prop_map(|machine| Deed::Strike { machine }),
        bytes.clone().prop_map(Deed::Hold),
        bytes.clone().prop_map(Deed::LetGo),
        (0..2000u32).prop_map(Deed::Overcommit),
        prop::option::of(bytes).prop_map(Deed::Capacity),
    ]
}

proptest! {
    #[test]
    fn it_adds_up_whatever_is_done(deeds in prop::collection::vec(deed(), 1..60)) {
        let mut ledger = Ledger::new(capacity());
        for deed in deeds {
            let before = ledger.clone();
            match deed {
                Deed::Grant { machine, memory, reserved, operations, disk } => {
                    let grant = Grant {
                        allotment: Allotment { reservation_percent: reserved, ..Allotment::default() },
                        throttles: Throttles {
                            disk_operations: operations,
                            disk_bytes: disk.map(Size::mib),
                            network_bytes: None,
                        },
                        ..of_memory(memory)
                    };
                    match ledger.grant_to(MachineId(machine), "m", grant) {
                        Ok(()) => for (line, was) in ledger.lines().iter().zip(before.lines()) {
                            prop_assert!(line.over <= was.over, "{line:?}: a grant never goes over the limit");
                        },
                        Err(refusal) => {
                            prop_assert!(refusal.wanted > refusal.line.free.unwrap());
                            prop_assert_eq!(&ledger, &before);
                        }
                    }
                }
                Deed::Observe { machine, memory } => {
                    ledger.observe(MachineId(machine), of_memory(memory).memory);
                }
                Deed::Strike { machine } => ledger.strike(MachineId(machine)),
                Deed::Hold(bytes) => ledger.hold(bytes),
                Deed::LetGo(bytes) => ledger.let_go(bytes.min(before.held_bytes)),
                Deed::Overcommit(percent) => ledger.set_overcommit_percent(percent),
                Deed::Capacity(memory) => ledger.set_capacity(Resource::Memory, memory),
            }
            adds_up(&ledger);
        }
    }
}
