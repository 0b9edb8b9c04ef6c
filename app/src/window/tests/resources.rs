//! The resource deck clicked through, with two pretended machines that sit in the host's ledger.

use std::sync::Arc;

use egui::accesskit::Role;
use egui_kittest::kittest::Queryable;
use engine::profile::Size;
use engine::resources::{Resources, Throttles};
use engine::scheduler::DEFAULT_SHARES;

use super::Window;
use crate::running::Running;
use crate::running::fake::Fake;

const MIB: u64 = 1 << 20;

/// The deck with two machines of these names, 256 MiB each.
fn deck(names: [&str; 2]) -> (Window<'static>, [Arc<Fake>; 2]) {
    let mut window = Window::new();
    let fakes = names.map(Fake::new);
    for fake in &fakes {
        fake.sit();
        window.harness.state_mut().give(fake.clone());
    }
    window.harness.set_size(egui::vec2(1180.0, 1700.0));
    window.click("Resources");
    (window, fakes)
}

impl Window<'_> {
    /// Writes into the `nth` field of this name, and presses Enter.
    pub(super) fn write(&mut self, name: &str, nth: usize, text: &str) {
        let field = |window: &Self, act: &dyn Fn(&egui_kittest::Node<'_>)| {
            act(&window.harness.get_all_by_role_and_label(Role::TextInput, name).nth(nth).unwrap());
        };
        field(self, &|node| node.focus());
        self.steps();
        field(self, &|node| node.type_text(text));
        self.steps();
        self.harness.key_press(egui::Key::Enter);
        self.steps();
    }

    /// Until a transfer to this machine is done.
    fn wait_until(&mut self, is_so: impl Fn() -> bool) {
        for _ in 0..2000 {
            if is_so() {
                return self.steps();
            }
            self.harness.step();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        panic!("it never came to that");
    }
}

#[test]
fn memory_is_given_by_a_button_and_taken_back() {
    let (mut window, [builder, server]) = deck(["builder", "server"]);
    window.write("memory now", 1, "128M");
    assert_eq!(server.balloon_bytes(), 128 * MIB, "what the field says is asked of the guest");
    assert!(window.shows_part("vitrine ctl server set memory=128M"));
    window.click("Give 64 MiB to server");
    assert!(window.shows_part("vitrine ctl move memory 64M from builder to server"));
    let (given, taken) = (builder.clone(), server.clone());
    window.wait_until(|| given.balloon_bytes() == 64 * MIB && taken.balloon_bytes() == 64 * MIB);
    window.wait_until(|| {
        let transfers = Resources::global().transfers();
        transfers.iter().any(|one| one.receiver.name == "server" && one.state.word() == "done")
    });
    assert!(window.shows("64 MiB of memory from builder to server"));
    // Other tests of this process move things too.
    let row =
        window.harness.get_all_by_label("64 MiB of memory from builder to server").next().unwrap().rect();
    let beside = |undo: &egui_kittest::Node<'_>| (undo.rect().center().y - row.center().y).abs() < 8.0;
    window.harness.get_all_by_label("Undo").find(beside).expect("it can be taken back").click();
    window.steps();
    assert!(window.shows_part("vitrine ctl undo "));
    window.wait_until(|| given.balloon_bytes() == 0 && taken.balloon_bytes() == 128 * MIB);
}

#[test]
fn a_parcel_is_dragged_to_another_column() {
    let (mut window, [left, right]) = deck(["left", "right"]);
    let parcel = window.harness.get_all_by_label("drag").next().unwrap().rect().center();
    let to = window.harness.get_all_by_label("right").last().unwrap().rect().center();
    window.harness.drag_at(parcel);
    window.steps();
    for part in [0.1, 0.5, 1.0] {
        window.harness.hover_at(parcel + part * (to - parcel));
        window.steps();
    }
    window.harness.drop_at(to);
    window.steps();
    assert!(window.shows_part("vitrine ctl move shares 256 from left to right"));
    let shares = |fake: &Fake| fake.allotment().shares;
    assert_eq!((shares(&left), shares(&right)), (DEFAULT_SHARES - 256, DEFAULT_SHARES + 256));
}

#[test]
fn every_bound_is_a_field() {
    let (mut window, [one, _other]) = deck(["fielded", "beside"]);
    for (name, text) in [
        ("shares", "300"),
        ("cap, %", "40"),
        ("reserved, %", "5"),
        ("floor", "32M"),
        ("disk accesses", "500"),
        ("disk data", "10M"),
        ("network data", "2M"),
    ] {
        window.write(name, 0, text);
    }
    let allotment = one.allotment();
    assert_eq!((allotment.shares, allotment.cap_percent, allotment.reservation_percent), (300, Some(40), 5));
    let bounds = Throttles {
        disk_operations: Some(500),
        disk_bytes: Some(Size::mib(10)),
        network_bytes: Some(Size::mib(2)),
    };
    assert_eq!(one.throttles(), bounds);
    let grant = Resources::global().grant(one.id().unwrap()).unwrap();
    assert_eq!(grant.memory.floor_bytes, 32 * MIB);
    window.write("disk data", 0, "much");
    assert!(window.shows_part("no unit"), "what cannot be is told");
    assert_eq!(one.throttles(), bounds);
    window.write("disk accesses", 0, "none");
    assert_eq!(one.throttles().disk_operations, None);
    window.harness.get_all_by_label("25").next().unwrap().click();
    window.steps();
    assert_eq!(one.allotment().cap_percent, Some(25));
    // What is bounded on both sides can be given.
    window.write("disk data", 1, "10M");
    window.harness.get_by_label("Give 10 MiB/s to beside").click();
    window.steps();
    assert!(window.shows_part("keeps at least"), "all of it would stop its disks");
}

#[test]
fn the_host_is_a_pair_of_fields_and_the_policy_a_switch() {
    let (mut window, _fakes) = deck(["first", "second"]);
    window.write("overcommit, %", 0, "150");
    assert_eq!(Resources::global().report().overcommit_percent, 150);
    Resources::global().set_overcommit_percent(100);
    window.write("quantum, ms", 0, "4");
    assert_eq!(engine::scheduler::Scheduler::global().quantum(), std::time::Duration::from_millis(4));
    window.click("Balance by need");
    assert!(Resources::global().policy().is_on && window.shows("Nobody runs short."));
    assert!(window.shows_part("vitrine ctl policy on"));
    window.click("Balance by need");
    assert!(!Resources::global().policy().is_on);
    assert!(window.shows("The host's ledger") && window.shows("may be granted"));
}
