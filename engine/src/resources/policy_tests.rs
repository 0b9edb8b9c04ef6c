//! The policy's decisions, by tables.

use super::*;

const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;

fn sample(number: u64, now: u64, available: Option<u64>) -> Sample {
    Sample {
        id: MachineId(number),
        name: ["", "a", "b", "c"][number as usize].to_owned(),
        now_bytes: now * MIB,
        floor_bytes: 128 * MIB,
        ceiling_bytes: 512 * MIB,
        available_bytes: available.map(|mib| mib * MIB),
        shares: DEFAULT_SHARES,
        ran_percent: 0.0,
        waited_percent: 0.0,
    }
}

fn busy(number: u64, shares: u32, ran: f64, waited: f64) -> Sample {
    Sample { shares, ran_percent: ran, waited_percent: waited, ..sample(number, 256, None) }
}

/// What moves between machines `a` (first) and `b`: from, MiB or shares.
fn moved(samples: &[Sample]) -> Vec<(u64, u64)> {
    let amount = |goods: Goods| match goods {
        Goods::Memory(bytes) => bytes / MIB,
        other => other.amount(),
    };
    let decisions = decide(samples, &Memory::default(), 0);
    decisions.iter().map(|decision| (decision.donor.0, amount(decision.goods))).collect()
}

#[test]
fn memory_goes_to_who_is_short_from_who_has_plenty() {
    for (a, b, expected) in [
        ((256, Some(20)), (512, Some(400)), vec![(2, 32)]),
        ((256, Some(0)), (512, Some(400)), vec![(2, 64)]),
        // Not short; nobody has plenty; no word from the guest.
        ((256, Some(30)), (512, Some(400)), vec![]),
        ((256, Some(20)), (512, Some(150)), vec![]),
        ((256, Some(20)), (512, None), vec![]),
        ((256, None), (512, Some(400)), vec![]),
        // At its ceiling; the donor at its floor, and near it.
        ((512, Some(20)), (512, Some(400)), vec![]),
        ((256, Some(0)), (128, Some(100)), vec![]),
        ((256, Some(0)), (160, Some(100)), vec![(2, 32)]),
        // Both short.
        ((256, Some(10)), (256, Some(5)), vec![]),
    ] {
        let samples = [sample(1, a.0, a.1), sample(2, b.0, b.1)];
        assert_eq!(moved(&samples), expected, "{a:?} {b:?}");
    }
}

#[test]
fn the_neediest_gets_and_the_richest_gives() {
    let samples = [sample(1, 256, Some(20)), sample(2, 256, Some(2)), sample(3, 512, Some(450))];
    let decision = &decide(&samples, &Memory::default(), 7)[0];
    assert_eq!((decision.receiver, decision.donor), (MachineId(2), MachineId(3)));
    assert_eq!(
        decision.reason,
        "b has 2 MiB of 256 MiB available, less than 10 %; c has 450 MiB of 512 MiB, more than 30 %"
    );
}

#[test]
fn shares_go_to_who_waits_from_who_does_not() {
    for (a, b, expected) in [
        (busy(1, 1024, 50.0, 50.0), busy(2, 1024, 60.0, 1.0), vec![(2, 128)]),
        (busy(1, 1024, 50.0, 50.0), busy(2, 1024, 50.0, 50.0), vec![]),
        (busy(1, 1024, 90.0, 10.0), busy(2, 1024, 60.0, 1.0), vec![]),
        (busy(1, 1024, 1.0, 5.0), busy(2, 1024, 60.0, 0.0), vec![]),
        (busy(1, 4096, 50.0, 50.0), busy(2, 1024, 60.0, 0.0), vec![]),
        (busy(1, 4090, 50.0, 50.0), busy(2, 1024, 60.0, 0.0), vec![(2, 6)]),
        (busy(1, 1024, 50.0, 50.0), busy(2, 256, 60.0, 0.0), vec![]),
        (busy(1, 1024, 50.0, 50.0), busy(2, 260, 60.0, 0.0), vec![(2, 4)]),
    ] {
        assert_eq!(moved(&[a.clone(), b.clone()]), expected, "{a:?} {b:?}");
    }
}

#[test]
fn it_rests_and_who_received_does_not_give() {
    let mut policy = Policy::default();
    let samples = [sample(1, 256, Some(0)), sample(2, 512, Some(400))];
    assert_eq!(policy.decide(&samples, 0).len(), 1);
    assert_eq!(policy.decide(&samples, 9 * SECOND), [], "it rests");
    assert_eq!(policy.decide(&samples, 10 * SECOND).len(), 1);
    // Now the other way round: a has plenty, and had been given some.
    let turned = [sample(1, 384, Some(300)), sample(2, 256, Some(0))];
    assert_eq!(policy.decide(&turned, 30 * SECOND), []);
    assert_eq!(policy.decide(&turned, 71 * SECOND).len(), 1);
}

#[test]
fn no_machine_is_taken_below_its_floor_and_moves_die_out() {
    let mut samples = [sample(1, 192, Some(0)), sample(2, 512, Some(500)), sample(3, 300, Some(100))];
    let mut policy = Policy::default();
    let mut last = 0;
    for second in 0..600 {
        for decision in policy.decide(&samples, second * SECOND) {
            let Goods::Memory(bytes) = decision.goods else { panic!("{decision:?}") };
            for sample in &mut samples {
                let available = sample.available_bytes.as_mut().unwrap();
                if sample.id == decision.donor {
                    (sample.now_bytes, *available) = (sample.now_bytes - bytes, *available - bytes);
                }
                if sample.id == decision.receiver {
                    (sample.now_bytes, *available) = (sample.now_bytes + bytes, *available + bytes);
                }
            }
            last = second;
        }
        let total: u64 = samples.iter().map(|sample| sample.now_bytes / MIB).sum();
        assert_eq!(total, 192 + 512 + 300);
        assert!(samples.iter().all(|sample| sample.now_bytes >= sample.floor_bytes));
    }
    assert!(last < 30, "it still moved memory after {last} s");
}

#[test]
fn the_log_is_bounded() {
    let mut policy = Policy::default();
    let decision = Decision {
        at_ns: 0,
        donor: MachineId(1),
        receiver: MachineId(2),
        goods: Goods::Shares(1),
        reason: String::new(),
        result: Ok(1),
    };
    (0..DECISIONS_KEPT as u64 + 5).for_each(|at_ns| policy.log(Decision { at_ns, ..decision.clone() }));
    let kept = policy.report().decisions;
    assert_eq!((kept.len(), kept[0].at_ns), (DECISIONS_KEPT, 5));
}
