//! Machines made and changed by the form, by files dropped and chosen.

use std::path::Path;

use egui_kittest::kittest::Queryable;
use engine::profile::{DiskBus, Nic, Profile};

use super::{Window, saved};
use crate::window::machines::Standing;
use crate::window::page::Page;

#[test]
fn a_new_machine_is_made_on_one_screen() {
    let mut window = Window::new();
    let program = window.program("hello.bin");
    window.click("New machine");
    assert_eq!(window.harness.state().page(), Page::NewMachine);
    window.click("Create and start");
    assert_eq!(window.harness.state().page(), Page::NewMachine, "there is nothing to create yet");
    assert!(window.shows_part("choose what the machine boots") && window.shows_part("needs a name"));
    window.field("What it boots").focus();
    window.harness.run_steps(1);
    window.field("What it boots").type_text(&program);
    window.steps();
    assert!(window.shows_part("flat program"));
    window.click("64M");
    window.click("Create and start");
    window.wait_for_start();
    let profile = window.library().load("hello").unwrap();
    assert_eq!(profile.memory, engine::profile::Size::mib(64));
    assert_eq!(window.standing(), Standing::Running);
}

#[test]
fn a_new_machine_gets_a_disk_and_the_devices_that_were_chosen() {
    let mut window = Window::new();
    let program = window.program("hello.bin");
    window.harness.set_size(egui::vec2(1180.0, 1100.0));
    window.click("New machine");
    window.drop_file(&program);
    window.steps();
    window.click("8G");
    window.click("Disk bus, display, network, sound");
    window.click("AHCI");
    window.click("switch");
    window.click("NE2000");
    window.click("Sound Blaster 16");
    window.click("loudspeaker");
    window.click("Create");
    let profile = window.library().load("hello").unwrap();
    assert_eq!(profile.disks, [window.library().folder("hello").join(engine::library::DISK_FILE)]);
    assert!(profile.disks[0].is_file());
    assert_eq!((profile.disk_bus, profile.nic), (DiskBus::Ahci, Nic::Ne2000));
    assert_eq!(
        (profile.network.to_string(), profile.sound.to_string()),
        ("switch:lan".into(), "ac97,sb16".into())
    );
}

#[test]
fn a_saved_machines_settings_are_changed() {
    let mut window = Window::prepared(|library| saved(library, "old"));
    let before = window.library().load("old").unwrap();
    window.harness.set_size(egui::vec2(1180.0, 1100.0));
    window.click("Settings");
    assert!(window.shows("Settings of old"));
    window.click("512M");
    window.click("8G");
    window.click("Save");
    assert_eq!(window.harness.state().page(), Page::Library);
    let after = window.library().load("old").unwrap();
    assert_eq!(after.memory, engine::profile::Size::mib(512));
    assert_eq!(Profile { memory: before.memory, disks: before.disks.clone(), ..after.clone() }, before);
    window.click("Settings");
    window.click("Take out");
    window.click("Add…");
    window.click("This folder");
    window.click("Save");
    let disks = window.library().load("old").unwrap().disks;
    assert!(disks.len() == 1 && disks[0].is_dir(), "the folder is the guest's disk: {disks:?}");
    assert!(after.disks[0].is_file(), "its file stays");
}

#[test]
fn problems_stand_under_their_fields() {
    let mut window = Window::prepared(|library| saved(library, "twin"));
    window.click("New machine");
    window.field("Name").focus();
    window.harness.run_steps(1);
    window.field("Name").type_text("twin");
    window.steps();
    assert!(window.shows_part("exists already"));
    window.field("What it boots").focus();
    window.harness.run_steps(1);
    window.field("What it boots").type_text("/nonexistent/disc.iso");
    window.steps();
    assert!(window.shows_part("no such file"));
}

#[test]
fn a_file_is_chosen_in_the_window() {
    let mut window = Window::new();
    let program = window.program("pick me.bin");
    window.click("New machine");
    window.field("What it boots").focus();
    window.harness.run_steps(1);
    let inside = Path::new(&program).parent().unwrap().join("x");
    window.field("What it boots").type_text(inside.to_str().unwrap());
    window.steps();
    window.click("Browse…");
    window.harness.get_by_label_contains("pick me.bin").click();
    window.steps();
    window.click("Choose");
    assert_eq!(window.field("What it boots").value().as_deref(), Some(program.as_str()));
    assert_eq!(window.field("Name").value().as_deref(), Some("pick me"));
}

#[test]
fn a_dropped_file_becomes_a_machine_and_starts() {
    let mut window = Window::new();
    let program = window.program("dropped.bin");
    window.drop_file(&program);
    window.wait_for_start();
    assert_eq!(window.standing(), Standing::Running);
    assert!(window.library().load("dropped").is_ok());
    window.click("Machines");
    window.drop_file("/nonexistent.iso");
    window.steps();
    assert!(window.shows_part("no such file"), "a bad file is told");
    assert_eq!(window.harness.state().page(), Page::Library);
    assert_eq!(window.library().list().len(), 1);
}

#[test]
fn a_file_dropped_on_the_form_is_what_it_boots() {
    let mut window = Window::new();
    let program = window.program("form.bin");
    window.click("New machine");
    window.drop_file(&program);
    window.steps();
    assert_eq!(window.field("What it boots").value().as_deref(), Some(program.as_str()));
    assert!(window.library().list().is_empty());
}
