//! Saved states of a machine: take one, go back to one, start from one; and the machine put aside until tomorrow.

use std::sync::Arc;

use egui::{Frame, Label, RichText, ScrollArea, Ui};
use engine::resources::amount;
use engine::snapshot::{Entry as Saved, States};

use super::action::Action;
use super::chrome::figure;
use super::errands::Outcome;
use super::machines::{Entry, Standing};
use super::{chrome, theme};
use crate::control::Command;
use crate::control::saved::{self, SnapshotRequest, when};
use crate::running::Running;

/// How often the folder is looked at, in seconds.
const LOOK_SECONDS: f64 = 1.0;
/// Width of a card.
const WIDTH: f32 = 760.0;

/// Does what was asked for with saved states, which may take a while; a machine that is off has none but those to delete.
pub fn errand(states: &States, machine: Option<Arc<dyn Running>>, command: &Command) -> Outcome {
    let session = || machine.as_ref().and_then(|machine| machine.session()).ok_or("the machine is off");
    let answer = match command {
        Command::Suspend => saved::suspend(states, session()?)?,
        Command::Snapshot { what: SnapshotRequest::Delete { name } } => {
            states.delete(saved::which(name)).map_err(|error| error.to_string())?;
            return Ok(format!("{name} is deleted"));
        }
        Command::Snapshot { what } => saved::execute(states, session()?, what)?,
        _ => return Err("that is nothing about saved states".to_owned()),
    };
    Ok(answer.text)
}

/// The page's own state.
#[derive(Default)]
pub struct SnapshotsPage {
    name: String,
    list: Vec<Saved>,
    /// Whose list it is, and when it was read.
    read: Option<(u64, f64)>,
}

impl SnapshotsPage {
    /// Has the list read again.
    pub fn look_again(&mut self) {
        self.read = None;
    }

    /// Shows the page of a machine, whose states lie in `states`; `busy` while something is under way.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        states: Result<States, String>,
        busy: bool,
        asked: &mut Vec<Action>,
    ) {
        let now = ui.input(|input| input.time);
        ui.ctx().request_repaint_after_secs(LOOK_SECONDS as f32);
        if !self.read.is_some_and(|(id, then)| id == entry.id && now - then < LOOK_SECONDS) {
            self.list = states.as_ref().map(States::list).unwrap_or_default();
            self.read = Some((entry.id, now));
        }
        let frame = Frame::new().fill(theme::colours().background).inner_margin(14);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
                ui.set_max_width(WIDTH);
                ui.spacing_mut().item_spacing.y = 10.0;
                self.save(ui, entry, busy, asked);
                if let Err(reason) = &states {
                    ui.label(RichText::new(reason).color(theme::colours().bad));
                }
                chrome::card(ui, "Snapshots", |ui| self.snapshots(ui, entry, busy, asked));
            });
        });
    }

    fn save(&mut self, ui: &mut Ui, entry: &Entry, busy: bool, asked: &mut Vec<Action>) {
        let runs = matches!(entry.standing(), Standing::Running | Standing::Paused);
        chrome::card(ui, "Save", |ui| {
            let colours = theme::colours();
            let text = if runs {
                "A snapshot keeps memory, devices and disks as they are now; the machine goes on meanwhile."
            } else {
                "The machine is off. Start it, or start it from a snapshot below."
            };
            ui.label(RichText::new(text).color(colours.weak));
            ui.horizontal(|ui| {
                let field = egui::TextEdit::singleline(&mut self.name).hint_text("name").desired_width(220.0);
                let label = ui.label("Name");
                ui.add_enabled(runs, field).labelled_by(label.id);
                let what = SnapshotRequest::Take { name: self.name.trim().to_owned() };
                let is_named = !self.name.trim().is_empty();
                let take = Action::Do(entry.id, Command::Snapshot { what });
                if take.main_button(ui, runs && is_named && !busy, asked).clicked() {
                    self.name.clear();
                }
                Action::Do(entry.id, Command::Suspend).button_if(ui, runs && !busy, asked);
                if busy {
                    ui.add(egui::Spinner::new().size(16.0));
                }
            });
        });
    }

    fn snapshots(&self, ui: &mut Ui, entry: &Entry, busy: bool, asked: &mut Vec<Action>) {
        if self.list.is_empty() {
            let text = "None yet. One taken before an experiment takes the machine back to it in a moment.";
            ui.label(RichText::new(text).color(theme::colours().weak));
        }
        for (number, saved) in self.list.iter().enumerate() {
            if number > 0 {
                ui.separator();
            }
            ui.push_id(number, |ui| row(ui, entry, saved, busy, asked));
        }
    }
}

fn row(ui: &mut Ui, entry: &Entry, saved: &Saved, busy: bool, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    ui.horizontal(|ui| {
        let name = saved.name.as_deref().unwrap_or("suspended");
        ui.add(Label::new(RichText::new(name).strong().size(15.0)).truncate());
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let what = SnapshotRequest::Delete { name: name.to_owned() };
            let delete = Action::Ask(Box::new(Action::Do(entry.id, Command::Snapshot { what })));
            // The one it was suspended in is given up by starting it anew.
            if saved.name.is_some() {
                delete.button_if(ui, !busy, asked);
            }
            let is_whole = saved.head.is_ok();
            match &saved.name {
                None => {
                    Action::Ask(Box::new(Action::StartAnew(entry.id))).button_if(ui, !busy, asked);
                    Action::Continue(entry.id).main_button(ui, is_whole && !busy, asked);
                }
                Some(name) if entry.is_alive() => {
                    let what = SnapshotRequest::Restore { name: name.clone() };
                    let back = Action::Ask(Box::new(Action::Do(entry.id, Command::Snapshot { what })));
                    back.button_if(ui, is_whole && !busy, asked);
                }
                Some(name) => {
                    drop(Action::StartFrom(entry.id, name.clone()).main_button(ui, is_whole, asked))
                }
            }
        });
    });
    match &saved.head {
        Ok(head) => {
            figure(ui, "taken", &when(head.taken_seconds));
            figure(ui, "guest time", &format!("{:.1} s", head.guest_ns as f64 / 1e9));
            figure(ui, "file", &amount::bytes(saved.bytes));
            figure(ui, "saved on", &format!("{} · {}", head.backend, head.profile.memory));
            for drive in &head.drives {
                let state = match drive.check_files() {
                    Ok(()) => String::new(),
                    Err(_) => " · was changed since".to_owned(),
                };
                figure(ui, &drive.drive, &format!("{}{state}", drive.named.display()));
            }
        }
        Err(error) => drop(ui.label(RichText::new(error.to_string()).color(colours.bad))),
    }
}
