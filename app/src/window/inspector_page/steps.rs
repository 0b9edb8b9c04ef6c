//! Making steps: the buttons, and why the machine stands still.

use egui::{DragValue, RichText, Ui};
use engine::Session;

use super::super::action::Action;
use super::super::machines::{Entry, Id, Standing};
use super::super::theme;
use crate::control::{Command, StepArguments};
use crate::running::Running;

/// What the buttons remember.
pub struct Steps {
    /// How many steps the button for several makes.
    count: u64,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps { count: 100 }
    }
}

/// A button for a command to the machine.
fn button(ui: &mut Ui, id: Id, text: &str, enabled: bool, command: Command, asked: &mut Vec<Action>) {
    Action::Do(id, command).widget(ui, egui::Button::new(text), enabled, asked);
}

impl Steps {
    /// Shows the buttons; `busy` while a step is being made.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &dyn Running,
        cpu: usize,
        busy: bool,
        asked: &mut Vec<Action>,
    ) {
        let (id, paused) = (entry.id, entry.standing() == Standing::Paused);
        let ready = paused && !busy;
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            if paused {
                Action::Resume(id).widget(ui, egui::Button::new("Continue"), ready, asked);
            } else {
                Action::Pause(id).button_if(ui, entry.standing() == Standing::Running, asked);
            }
            let Some(session) = machine.session() else { return };
            ui.separator();
            let one = StepArguments::into(cpu, 1);
            let step = |arguments| Command::Step(arguments);
            button(ui, id, "Step into", ready, step(one.clone()), asked);
            button(ui, id, "Step over", ready, step(StepArguments { over: true, ..one.clone() }), asked);
            button(ui, id, "Step out", ready, step(StepArguments { out: true, ..one.clone() }), asked);
            let count = DragValue::new(&mut self.count).range(2..=1_000_000_000_u64);
            ui.add(count).on_hover_text("How many steps: drag, or click and type");
            let several = StepArguments { count: self.count, ..one.clone() };
            let text = format!("Step {}", self.count);
            button(ui, id, &text, ready, step(several.clone()), asked);
            ui.separator();
            if session.keeps_history() {
                button(ui, id, "Back", ready, step(StepArguments { back: true, ..one }), asked);
                let text = format!("Back {}", self.count);
                button(ui, id, &text, ready, step(StepArguments { back: true, ..several }), asked);
                let command = Command::Continue { back: true, wait: 0 };
                button(ui, id, "Back to the last stop", ready, command, asked);
            } else {
                keep_the_past(ui, id, machine, asked);
            }
            if busy {
                ui.spinner();
            }
        });
        if let Some(session) = machine.session().filter(|_| paused) {
            reason(ui, session);
        }
    }
}

/// Without its past, a machine cannot go back: how to have it.
fn keep_the_past(ui: &mut Ui, id: Id, machine: &dyn Running, asked: &mut Vec<Action>) {
    let command = Command::History { on: true, memory: 256 };
    let can = machine.profile().deterministic.is_some();
    let action = Action::Do(id, command);
    if can {
        action.widget(ui, egui::Button::new("Keep the past"), true, asked);
    } else {
        let text = "Stepping back needs a machine that was started with --deterministic";
        ui.add_enabled(false, egui::Button::new("Back")).on_disabled_hover_text(text);
    }
}

/// Why it stands still.
fn reason(ui: &mut Ui, session: &Session) {
    let colours = theme::colours();
    let (text, colour) = match session.last_stop() {
        Some(stopped) => (format!("Stopped. {}", stopped.in_words()), colours.warn),
        None => ("Paused by hand".to_owned(), colours.weak),
    };
    ui.add(egui::Label::new(RichText::new(text).color(colour)).wrap());
}
