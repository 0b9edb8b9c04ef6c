//! What lies over the pages: questions, the file picker, files dropped on the window.

use std::path::PathBuf;

use egui::{Modal, RichText, ViewportCommand};

use super::super::action::Action;
use super::super::file_picker::Choice;
use super::super::machines::Id;
use super::super::page::Page;
use super::super::theme;
use super::{App, Picked};
use crate::control::saved::SnapshotRequest;
use crate::control::{Command, SymbolsAction};
use crate::interrupt;
use crate::running::launch::Beginning;

impl App {
    /// The file picker, and questions.
    pub(super) fn dialogs(&mut self, ctx: &egui::Context, asked: &mut Vec<Action>) {
        if let Some((mut picker, picked)) = self.picker.take() {
            match (picker.show(ctx), picked) {
                (Choice::Open, picked) => self.picker = Some((picker, picked)),
                (Choice::Cancelled, _) => {}
                (Choice::File(path), Picked::Draft) => self.draft.take_file(&path),
                (Choice::File(path), Picked::Disk) => self.draft.profile.disks.push(path),
                (Choice::File(path), Picked::Symbols(id)) => {
                    asked.push(Action::Do(id, Command::Symbols { action: SymbolsAction::Load { path } }));
                }
                (Choice::File(file), Picked::Medium(id, drive)) => {
                    asked.push(Action::Do(id, Command::Insert { drive, file }));
                }
            }
        }
        if let Some(action) = &self.asking {
            let (title, text) = self.in_question(action);
            if question(ctx, &title, text, action.clone(), asked) {
                self.asking = None;
            }
        }
        if self.closing {
            let title = match self.machines.alive() {
                1 => "A machine is running".to_owned(),
                count => format!("{count} machines are running"),
            };
            let text = "Closing the window suspends machines of the library, which go on at their next start, and switches \
                        all others off.";
            if question(ctx, &title, text, Action::Quit, asked) {
                self.closing = false;
            }
        }
    }

    /// What is asked before `action`: the question, and what becomes of it.
    fn in_question(&self, action: &Action) -> (String, &'static str) {
        let name = |id: &Id| self.machines.get(*id).map(|entry| entry.name.clone()).unwrap_or_default();
        match action {
            Action::Delete(id) => (
                format!("Delete {}?", name(id)),
                "Its folder goes, with everything in it. Images elsewhere stay.",
            ),
            Action::StartAnew(id) => {
                (format!("Start {} anew?", name(id)), "The state it was suspended in is given up.")
            }
            Action::Do(_, Command::Snapshot { what: SnapshotRequest::Restore { name } }) => (
                format!("Go back to “{name}”?"),
                "What the machine did since then is given up, on its disks too.",
            ),
            Action::Do(_, Command::Snapshot { what: SnapshotRequest::Delete { name } }) => {
                (format!("Delete the snapshot “{name}”?"), "The machine goes on as it is.")
            }
            other => (format!("{}?", other.text()), other.tooltip()),
        }
    }

    /// Files dropped on the window: what the form boots, or at once a machine of their own.
    pub(super) fn drops(&mut self, ctx: &egui::Context) {
        let paths: Vec<PathBuf> =
            ctx.input(|input| input.raw.dropped_files.iter().filter_map(|file| file.path.clone()).collect());
        for path in paths {
            if self.page == Page::NewMachine {
                self.draft.take_file(&path);
                continue;
            }
            match self.machines.create_for(&path) {
                Ok(id) => self.start(id, Beginning::Usual),
                Err(reason) => self.notices.warn(reason),
            }
        }
        if ctx.input(|input| !input.raw.hovered_files.is_empty()) {
            let painter =
                ctx.layer_painter(egui::LayerId::new(egui::Order::Foreground, egui::Id::new("drop")));
            let rect = ctx.content_rect();
            painter.rect_filled(rect, 0.0, theme::colours().background.gamma_multiply(0.85));
            let text = if self.page == Page::NewMachine {
                "Drop it: this is what the machine boots"
            } else {
                "Drop it: it becomes a machine and starts"
            };
            let font = egui::FontId::proportional(26.0);
            painter.text(rect.center(), egui::Align2::CENTER_CENTER, text, font, theme::colours().text);
        }
    }

    /// A window that is closed while machines run asks first.
    pub(super) fn close_request(&mut self, ctx: &egui::Context) {
        // Told to end, there is nobody who can be asked.
        let may_close = self.quits || interrupt::came();
        if ctx.input(|input| input.viewport().close_requested()) && !may_close && self.machines.alive() > 0 {
            ctx.send_viewport_cmd(ViewportCommand::CancelClose);
            self.closing = true;
        }
    }
}

/// Asks before something that cannot be undone. True when the question is answered.
fn question(ctx: &egui::Context, title: &str, text: &str, yes: Action, asked: &mut Vec<Action>) -> bool {
    let count = asked.len();
    let mut is_answered = false;
    let modal = Modal::new(egui::Id::new(title)).show(ctx, |ui| {
        ui.set_width(380.0);
        ui.label(RichText::new(title).strong().size(17.0));
        ui.label(RichText::new(text).color(theme::colours().weak));
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            let button = egui::Button::new(RichText::new(yes.text()).color(theme::colours().background))
                .fill(theme::colours().bad);
            yes.widget(ui, button, true, asked);
            is_answered = ui.button("Cancel").clicked();
        });
    });
    is_answered || modal.should_close() || asked.len() > count
}
