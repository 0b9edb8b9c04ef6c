//! Steps, stops and names clicked on the pages of a machine that really runs: the built-in guest on the software CPU,
//! deterministic, so that it can go back.

use std::sync::Arc;
use std::time::Duration;

use egui::accesskit::Role;
use egui_kittest::kittest::Queryable;
use engine::Session;
use engine::backend::Backend;
use engine::debugger::{Condition, Met};
use engine::profile::Deterministic;
use engine::session::{Outlets, RunState};

use super::Window;
use crate::boot;
use crate::running::Running;

/// A window on the registers page of the built-in guest.
fn registers() -> (Window<'static>, Session) {
    let mut profile = boot::machine_for_builtin(engine::builtin::names()[0]);
    profile.name = "guest".to_owned();
    profile.backend = Backend::Soft;
    profile.deterministic = Some(Deterministic::default());
    let session = Session::start(&profile, Outlets::default()).unwrap();
    let mut window = Window::new();
    window.harness.set_size(egui::vec2(1500.0, 900.0));
    window.harness.state_mut().give(Arc::new(session.clone()) as Arc<dyn Running>);
    window.click("Registers");
    (window, session)
}

impl Window<'_> {
    /// Clicks, and waits until what was asked of the machine has come true.
    #[track_caller]
    pub(super) fn click_until(&mut self, label: &str, is_so: impl Fn() -> bool) {
        self.click(label);
        self.wait_for(label, is_so);
    }

    #[track_caller]
    pub(super) fn wait_for(&mut self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..5000 {
            if is_so() {
                // What is drawn has seen it too.
                std::thread::sleep(Duration::from_millis(20));
                return self.steps();
            }
            self.harness.step();
            std::thread::sleep(Duration::from_millis(2));
        }
        let told: Vec<String> =
            self.harness.query_all_by_role(Role::Label).filter_map(|node| node.value()).collect();
        panic!("'{what}' never did it; the window shows {told:?}");
    }

    /// Chooses a kind of condition; registers have such names, too.
    fn choose(&mut self, kind: &str) {
        self.harness.get_by_role_and_label(Role::Button, kind).click();
        self.steps();
    }

    pub(super) fn type_into(&mut self, hint: usize, text: &str) {
        let field =
            |window: &Self| window.harness.get_all_by_role(Role::TextInput).nth(hint).map(|node| node.rect());
        let at = field(self).expect("there is such a field").center();
        self.harness.drag_at(at);
        self.harness.drop_at(at);
        self.steps();
        self.harness.get_all_by_role(Role::TextInput).nth(hint).unwrap().type_text(text);
        self.steps();
    }
}

fn pause(window: &mut Window<'_>, session: &Session) {
    let paused = session.clone();
    window.click_until("Pause", || paused.state() == RunState::Paused);
}

fn steps(session: &Session) -> u64 {
    session.steps().unwrap()
}

#[test]
fn steps_are_made_forwards_and_backwards() {
    let (mut window, session) = registers();
    window.click_until("Keep the past", || session.keeps_history());
    assert!(window.shows_part("vitrine ctl guest history on"));
    pause(&mut window, &session);
    assert!(window.shows("Paused by hand"));
    let begun = steps(&session);
    window.click_until("Step into", || steps(&session) == begun + 1);
    assert!(window.shows_part("vitrine ctl guest step") && window.shows_part("Stopped. CPU 0: stepped"));
    window.click_until("Step 100", || steps(&session) == begun + 101);
    assert!(window.shows_part("vitrine ctl guest step 100"));
    let there = session.registers(0).unwrap();
    window.click_until("Back", || steps(&session) == begun + 100);
    window.click_until("Step into", || steps(&session) == begun + 101);
    assert_eq!(*session.registers(0).unwrap(), *there, "the same way leads to the same place");
    window.click_until("Back 100", || steps(&session) == begun + 1);
    let last = session.last_stop();
    window.click_until("Step over", || session.last_stop() != last && session.state() == RunState::Paused);
    assert!(window.shows_part("vitrine ctl guest step --over"));
    window.click_until("Continue", || session.state() == RunState::Running);
}

#[test]
fn stepping_out_leads_to_the_caller() {
    let (mut window, session) = registers();
    pause(&mut window, &session);
    // Into the timer's handler, and out of it.
    let id = session.add_condition(
        Condition::Interrupt { vector: Some(0x20), source: engine::debugger::InterruptSource::Hardware },
        0,
    );
    window.click_until("Continue", || {
        session.last_stop().is_some_and(|stopped| stopped.conditions == [id.clone().unwrap()])
    });
    session.remove_condition(None).unwrap();
    let handler = session.registers(0).unwrap().rip;
    window.steps();
    window.click_until("Step out", || session.last_stop().is_some_and(|stopped| stopped.met == Met::Arrived));
    assert!(window.shows_part("vitrine ctl guest step --out"));
    assert_ne!(session.registers(0).unwrap().rip, handler);
}

#[test]
fn stops_of_every_kind_are_added_in_the_form_met_and_removed() {
    let (mut window, session) = registers();
    window.click("Stops");
    assert!(window.shows_part("The machine stops nowhere by itself"));
    let mut expected = Vec::new();
    for (kind, condition) in
        [("interrupt", "interrupt"), ("exception", "exception"), ("mode", "mode"), ("exit", "exit port")]
    {
        window.choose(kind);
        expected.push(condition.to_owned());
        window.click_until("Add", || session.conditions().len() == expected.len());
        assert!(window.shows_part(&format!("vitrine ctl guest break add {condition}")));
    }
    for (kind, place, condition) in [
        ("execute", "0x100000", "execute 0x100000"),
        ("data", "0x500000", "data 0x500000 4 write"),
        ("physical", "0x600000", "physical 0x600000 4 write"),
        ("port", "0x3f8-0x3ff", "port 0x3f8-0x3ff write"),
    ] {
        window.choose(kind);
        if !expected.iter().any(|written| written.starts_with("execute")) {
            assert!(window.shows_part("give an address"));
        }
        clear_place(&mut window);
        window.type_into(1, place);
        expected.push(condition.to_owned());
        window.click_until("Add", || session.conditions().len() == expected.len());
    }
    let written: Vec<String> = session.conditions().iter().map(|set| set.condition.to_string()).collect();
    assert_eq!(written, expected);
    window.wait_for("a stop", || session.state() == RunState::Paused);
    assert!(window.shows_part("Stopped. "));
    window.harness.get_all_by_label("Remove").next().unwrap().click();
    window.wait_for("Remove", || session.conditions().len() == expected.len() - 1);
    window.click_until("Remove all", || session.conditions().is_empty());
}

/// Empties the form's place.
fn clear_place(window: &mut Window<'_>) {
    let at = window.harness.get_all_by_role(Role::TextInput).nth(1).unwrap().rect().center();
    window.harness.drag_at(at);
    window.harness.drop_at(at);
    window.steps();
    window.harness.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::A);
    window.harness.key_press(egui::Key::Delete);
    window.steps();
}

#[test]
fn a_line_of_code_is_clicked_to_stop_there() {
    let (mut window, session) = registers();
    pause(&mut window, &session);
    let registers = session.registers(0).unwrap();
    let line = engine::inspect::code::disassemble(&registers, session.memory(), registers.rip, 1).remove(0);
    window.harness.get_all_by_label(&line.text).next().unwrap().click();
    window.wait_for("the click", || !session.conditions().is_empty());
    assert_eq!(session.conditions()[0].condition, Condition::Execute { address: line.linear });
    window.harness.get_all_by_label(&line.text).next().unwrap().click();
    window.wait_for("the click", || session.conditions().is_empty());
}

#[test]
fn addresses_have_names_once_a_list_is_chosen() {
    let (mut window, session) = registers();
    pause(&mut window, &session);
    let linear = session.registers(0).unwrap().linear_rip();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("names.map");
    std::fs::write(&path, format!("{linear:016x} T waiting_loop\n")).unwrap();
    let action = crate::control::SymbolsAction::Load { path };
    crate::control::perform("guest", &session, &crate::control::Command::Symbols { action }).unwrap();
    window.steps();
    assert!(window.shows("waiting_loop:"), "above its first instruction");
    assert!(window.shows(&format!("linear {linear:x}  waiting_loop")), "beside RIP");
    window.click("Load symbols…");
    assert!(window.shows("Choose a file with names of addresses"));
    window.click("Cancel");
    window.click_until("Forget names", || session.symbols().is_empty());
}

#[test]
fn the_next_tick_and_the_next_access_are_stopped_at() {
    let (mut window, session) = registers();
    window.click("Timers");
    window.wait_for("the table", || {
        session.stats().timers.guest.iter().any(|timer| timer.name.starts_with("8254"))
    });
    window.harness.get_all_by_label("Stop at tick").next().unwrap().click();
    window.wait_for("the tick", || session.state() == RunState::Paused);
    assert!(matches!(session.last_stop().unwrap().met, Met::Ticked { .. }));
    assert!(window.shows_part("Stopped. the machine: "));
    window.harness.get_all_by_label("Stop at tick").next().unwrap().click();
    window.wait_for("its removal", || session.conditions().is_empty());
    window.click_until("Resume", || session.state() == RunState::Running);
    window.click("Trace");
    window.type_into(0, "0x40-0x43");
    window.click_until("Stop at the next", || session.conditions().len() == 1);
    assert!(window.shows_part("vitrine ctl guest break add port 0x40-0x43 access"));
    assert!(window.shows_part("port 0x40-0x43 access  ×"));
    window.harness.get_by_label_contains("port 0x40-0x43 access  ×").click();
    window.wait_for("its removal", || session.conditions().is_empty());
}
