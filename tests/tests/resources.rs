//! Resources of machines that run: memory goes from one Linux guest to another and back, refusals say why, throttles
//! hold disks back, and the books of timer ticks add up. Nothing here is timed.

use std::time::Duration;

use engine::profile::{LostTicks, Profile, Size};
use engine::resources::{Goods, MachineId, Resource, Resources, Throttles, Transfer, TransferState};
use machine_tests::answering::Answering;
use machine_tests::ticks::Program;
use machine_tests::{Guest, SOFT, assembler};

const MIB: u64 = 1 << 20;

fn profile(name: &str, mib: u64) -> Profile {
    let mut profile = Profile::new(name);
    profile.memory = Size::mib(mib);
    profile
}

fn id(linux: &Answering) -> MachineId {
    linux.guest.session().id().expect("it runs")
}

/// Waits until a transfer is over; the ledger adds up all the way.
fn over(number: u64) -> Transfer {
    let resources = Resources::global();
    for _ in 0..60_000 {
        let report = resources.report();
        let line = report.lines[1];
        let charged: u64 = report.machines.iter().map(|machine| machine.grant.memory.charged_bytes).sum();
        assert_eq!((line.resource, line.granted), (Resource::Memory, charged));
        assert_eq!(
            Some(line.granted + line.held + line.free.unwrap()),
            line.limit.map(|limit| limit + line.over)
        );
        let transfer = resources.transfer_numbered(number).expect("it is kept");
        if transfer.state.is_over() {
            return transfer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("transfer {number} does not end: {:?}", resources.transfer_numbered(number));
}

#[test]
fn memory_goes_from_one_linux_to_another_and_back() {
    let resources = Resources::global();
    let Some(a) = Answering::start(profile("a", 192), true) else { return };
    let mut roomy = profile("b", 256);
    roomy.memory_now = Some(Size::mib(192));
    let b = Answering::start(roomy, true).expect("the packages are there");
    [&a, &b].iter().for_each(|linux| linux.wait_ready());
    let seen = || [a.memory("MemTotal:"), b.memory("MemTotal:")];
    let before = seen();
    let number = resources.transfer(id(&a), id(&b), Goods::Memory(48 * MIB)).unwrap();
    let done = over(number);
    assert_eq!(
        (done.state, done.given, done.taken),
        (TransferState::Done, 48 * MIB, 48 * MIB),
        "{}",
        done.outcome
    );
    let after = seen();
    assert_eq!((before[0] - after[0], after[1] - before[1]), (48 * MIB, 48 * MIB), "what the guests see");
    let now = |at: usize| resources.report().machines[at].grant.memory.now_bytes / MIB;
    assert_eq!((now(0), now(1)), (144, 240));

    // Its ceiling is 16 MiB away, and the floor of the other (a quarter) 96.
    let too_much = resources.transfer(id(&a), id(&b), Goods::Memory(20 * MIB)).unwrap_err().to_string();
    assert!(too_much.contains("can take 16 MiB, not 20 MiB"), "{too_much}");
    let too_low = resources.transfer(id(&a), id(&b), Goods::Memory(100 * MIB)).unwrap_err().to_string();
    assert!(too_low.contains("keeps at least 48 MiB"), "{too_low}");

    let undone = over(resources.undo(number).unwrap());
    assert_eq!(undone.state, TransferState::Done, "{}", undone.outcome);
    assert_eq!(seen(), before);
    assert_eq!(resources.transfer_numbered(number).unwrap().state, TransferState::Undone);
}

#[test]
fn a_guest_without_a_driver_keeps_its_memory_and_can_give_shares() {
    let resources = Resources::global();
    let Some(a) = Answering::start(profile("a", 128), false) else { return };
    let b = Guest::flat(&[0xFA, 0xF4], SOFT);
    a.wait_ready();
    let (a, other) = (id(&a), b.session().id().expect("it runs"));
    let refused = resources.transfer(a, other, Goods::Memory(16 * MIB)).unwrap_err().to_string();
    assert!(refused.contains("virtio_balloon"), "{refused}");
    let number = resources.transfer(a, other, Goods::Shares(24)).unwrap();
    assert_eq!(b.session().allotment().shares, 1048);
    resources.undo(number).unwrap();
    assert_eq!(b.session().allotment().shares, 1024);
}

#[test]
fn a_machine_that_does_not_fit_is_refused_and_leaves_no_trace() {
    let resources = Resources::global();
    let had = resources.report().lines[1].limit.expect("the host's memory is known");
    let fits = Guest::flat(&[0xFA, 0xF4], SOFT);
    resources.set_capacity(Resource::Memory, Some(300 * MIB));
    let refused = engine::Session::start(&profile("second", 256), engine::Outlets::default()).err();
    let reason = refused.expect("there is no room").to_string();
    assert!(reason.contains("wants 256 MiB of memory, and 44 MiB are free"), "{reason}");
    assert_eq!(resources.report().machines.len(), 1);
    drop(fits);
    assert_eq!(resources.report().lines[1].granted, 0);
    resources.set_capacity(Resource::Memory, Some(had));
}

#[test]
fn a_throttled_disk_still_tells_the_truth() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let mut content = vec![0; 1 << 20];
    content[..7].copy_from_slice(b"VITRINE");
    std::fs::write(image.path(), content).unwrap();
    let mut profile = profile("disk", 16);
    profile.disks = vec![image.path().to_owned()];
    profile.throttles =
        Throttles { disk_operations: Some(2000), disk_bytes: Some(Size::mib(4)), network_bytes: None };
    let guest = Guest::flat_in(profile, &assembler::binary("ide_disk"), SOFT);
    guest.wait_pass(60);
}

#[test]
fn every_tick_is_delivered_or_merged_or_replayed() {
    let second = Duration::from_secs(1);
    for program in [
        Program::Pit { mode: 2, count: 1193 },
        Program::Pit { mode: 3, count: 11_932 },
        Program::Rtc { rate: 6 },
        Program::Rtc { rate: 3 },
        Program::Apic { period_ns: 1_000_000 },
    ] {
        for policy in [LostTicks::Merge, LostTicks::Replay] {
            let outcome = program.run(second, policy);
            if let Err(reason) = outcome.check(program) {
                panic!("{policy:?}: {reason}");
            }
            assert!(policy == LostTicks::Replay || outcome.timer.replayed + outcome.timer.owed == 0);
        }
    }
}

#[test]
fn the_timer_guests_binary_is_its_sources() {
    let Some(assembled) = assembler::assemble("control/timers") else { return };
    assert!(assembled == assembler::binary("control/timers"), "timers.bin is not what timers.asm says");
}
