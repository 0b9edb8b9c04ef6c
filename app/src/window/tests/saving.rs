//! Saved states, drives and cables clicked on the pages of a machine that really runs: the built-in guest on the
//! software CPU.

use std::sync::Arc;
use std::time::Duration;

use egui_kittest::kittest::Queryable;
use engine::Session;
use engine::backend::Backend;
use engine::library::Library;
use engine::profile::{Network, Profile};
use engine::session::{Ending, Outlets, RunState};
use engine::snapshot::{self, States};

use super::Window;
use crate::boot;
use crate::running::Running;
use crate::window::page::Page;

fn guest() -> Profile {
    let mut profile = boot::machine_for_builtin(engine::builtin::names()[0]);
    profile.name = "guest".to_owned();
    profile.backend = Backend::Soft;
    profile
}

/// A window on a page of a machine.
fn window_on(page: &str, profile: &Profile) -> (Window<'static>, Session) {
    let session = Session::start(profile, Outlets::default()).unwrap();
    let mut window = Window::new();
    window.harness.set_size(egui::vec2(1500.0, 900.0));
    window.harness.state_mut().give(Arc::new(session.clone()) as Arc<dyn Running>);
    window.click(page);
    (window, session)
}

impl Window<'_> {
    fn states(&self) -> States {
        States::of(&self.library(), "guest").unwrap()
    }
}

#[test]
fn a_snapshot_is_taken_gone_back_to_and_deleted() {
    let (mut window, session) = window_on("Snapshots", &guest());
    assert!(window.shows_part("None yet"));
    window.type_into(0, "before");
    let states = window.states();
    window.click_until("Take snapshot", || states.names() == ["before"]);
    window.wait_for("the list", || true);
    assert!(window.shows_part("vitrine ctl guest snapshot take before"));
    assert!(window.shows("before") && window.shows_part("guest time"));
    let taken = states.head(snapshot::Which::Snapshot("before")).unwrap().guest_ns as f64 / 1e9;
    assert_eq!(session.state(), RunState::Running, "it goes on");

    session.pause();
    let paused = session.clone();
    window.wait_for("paused", || paused.state() == RunState::Paused);
    assert!(session.stats().guest_seconds > taken);
    window.click("Go back to it");
    assert!(window.shows("Go back to “before”?"), "what cannot be undone is asked first");
    let back = session.clone();
    window.harness.get_all_by_label("Go back to it").last().unwrap().click();
    window.wait_for("back", || (back.stats().guest_seconds - taken).abs() < 1e-9);

    window.click("Delete");
    window.harness.get_all_by_label("Delete").last().unwrap().click();
    window.wait_for("deleted", || states.names().is_empty());
}

#[test]
fn a_suspended_machine_is_off_and_the_library_says_how_it_goes_on() {
    let (mut window, session) = window_on("Snapshots", &guest());
    window.click_until("Suspend", || session.wait(Duration::ZERO) == Some(Ending::PoweredOff));
    assert!(window.states().is_suspended());

    let mut window = Window::prepared(|library: &Library| {
        library.create(&guest(), None).unwrap();
        let session = Session::start(&guest(), Outlets::default()).unwrap();
        snapshot::suspend(&session, &States::of(library, "guest").unwrap()).unwrap();
    });
    assert!(window.shows("suspended") && window.shows("Continue"));
    window.click("More ⏷");
    window.harness.get_all_by_label("Snapshots").last().unwrap().click();
    window.steps();
    assert_eq!(window.harness.state().page(), Page::Snapshots);
    window.click("Start anew");
    assert!(window.shows("Start guest anew?"));
    window.click("Cancel");
    window.click("Continue");
    assert_eq!(window.harness.state().page(), Page::Console);
}

#[test]
fn disks_and_cables_are_changed_while_the_machine_runs() {
    let folder = tempfile::tempdir().unwrap();
    let disc = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![0; 64 << 10]).unwrap();
        path
    };
    let mut profile = guest();
    profile.cdrom = Some(disc("one.iso"));
    disc("two.iso");
    profile.network = Network::Nat { forwards: Vec::new(), host_loopback: false };
    let (mut window, session) = window_on("Devices", &profile);
    let medium =
        |session: &Session| session.drives().into_iter().find(|drive| drive.name == "cdrom").unwrap().medium;
    assert!(window.shows_part("one.iso"));
    window.click("Insert into cdrom…");
    assert!(window.shows("Choose what goes into the CD drive"));
    window.harness.get_by_label_contains("two.iso").click();
    window.steps();
    let running = session.clone();
    window.click_until("Choose", || medium(&running).is_some_and(|path| path.ends_with("two.iso")));
    let running = session.clone();
    window.click_until("Eject", || medium(&running).is_none());
    assert!(window.shows("empty") && window.shows_part("vitrine ctl guest eject cdrom"));

    let is_plugged = |session: &Session| session.stats().network.unwrap().plugged;
    assert!(is_plugged(&session));
    window.click("Pulled out");
    assert!(!is_plugged(&session));
    window.click("Plugged in");
    assert!(is_plugged(&session));

    window.write("latency, ms", 0, "30.5");
    assert!(window.shows_part("vitrine ctl guest set network-latency=30.5"));
    window.write("loss, %", 0, "1.5");
    let line = session.line().unwrap();
    assert_eq!((line.latency_us, line.lost_per_million), (30_500, 15_000));

    window.click("Muted");
    assert!(session.sound().status().muted && window.shows_part("vitrine ctl guest sound --mute on"));
    window.click("Heard");
    assert!(!session.sound().status().muted);
}
