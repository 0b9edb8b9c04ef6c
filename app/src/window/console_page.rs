//! The console: the guest's screen with its controls, and the register panel beside it.

use std::sync::Arc;

use egui::{Align, Color32, Frame, Layout, RichText, Sense, Ui};

use engine::session::{Ending, RunState};

use super::action::Action;
use super::capture::SharedCapture;
use super::chord::CHORDS;
use super::fitting::Fitting;
use super::machines::{Entry, Life, Origin, Standing};
use super::picture::{SCALINGS, Scaling, place};
use super::pointer::Pointer;
use super::registers_panel::RegistersPanel;
use super::{crash_card, library_page, theme};
use crate::running::Running;

/// What the console remembers of how it is looked at.
#[derive(Default)]
pub struct Console {
    /// How the picture is scaled.
    pub scaling: Scaling,
    /// Whether the registers are shown.
    pub shows_registers: bool,
    /// The panel's memory.
    pub registers: RegistersPanel,
    pointer: Pointer,
    fitting: Fitting,
}

impl Console {
    /// Shows the page of `entry`.
    pub fn show(&mut self, ui: &mut Ui, entry: &mut Entry, capture: &SharedCapture, asked: &mut Vec<Action>) {
        egui::Panel::top("console-bar").frame(library_page::bar()).show(ui, |ui| {
            ui.horizontal(|ui| self.bar(ui, entry, capture, asked));
        });
        egui::Panel::bottom("console-status").frame(library_page::bar()).show(ui, |ui| {
            ui.horizontal(|ui| status(ui, entry, capture));
        });
        let crashed = entry.standing() == Standing::Crashed;
        if let (true, Life::On(machine)) = (self.shows_registers && !crashed, &entry.life) {
            let panel = egui::Panel::right("registers").frame(library_page::bar());
            panel.exact_size(theme::REGISTERS_WIDTH).resizable(false).show(ui, |ui| {
                let is_running = entry.standing() == Standing::Running;
                self.registers.show(ui, &**machine, is_running);
            });
        }
        let central = Frame::new().fill(theme::colours().screen);
        egui::CentralPanel::default().frame(central).show(ui, |ui| self.screen(ui, entry, capture, asked));
    }

    fn bar(&mut self, ui: &mut Ui, entry: &Entry, capture: &SharedCapture, asked: &mut Vec<Action>) {
        let id = entry.id;
        let standing = entry.standing();
        let is_alive = matches!(standing, Standing::Running | Standing::Paused);
        match standing {
            Standing::Running => Action::Pause(id).button(ui, asked),
            Standing::Paused => Action::Resume(id).main_button(ui, true, asked),
            // A machine from the command line belongs to its run, and ends with it.
            _ => Action::Start(id).main_button(ui, !entry.is_alive() && entry.origin != Origin::Given, asked),
        };
        Action::Reset(id).button_if(ui, is_alive, asked);
        ui.add_enabled_ui(is_alive, |ui| {
            ui.menu_button("Power ⏷", |ui| {
                Action::PowerButton(id).button(ui, asked);
                Action::PowerOff(id).button(ui, asked);
            });
            ui.menu_button("Send keys ⏷", |ui| {
                for chord in CHORDS {
                    Action::Send(id, chord).button(ui, asked);
                }
            });
        });
        Action::Screenshot(id).button_if(ui, entry.machine().is_some(), asked);
        ui.menu_button("Scale ⏷", |ui| {
            for scaling in SCALINGS {
                let button = egui::Button::selectable(self.scaling == scaling, scaling.text());
                Action::Scale(scaling).widget(ui, button, true, asked);
            }
        });
        let button = egui::Button::new(Action::ToggleRegisters.text()).selected(self.shows_registers);
        Action::ToggleRegisters.widget(ui, button, entry.machine().is_some(), asked);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let is_captured = capture.lock().has_keyboard();
            let text = RichText::new(format!("{} (right Ctrl)", Action::Release.text()));
            let button = match is_captured {
                true => egui::Button::new(text.color(theme::colours().background).strong())
                    .fill(theme::colours().warn),
                false => egui::Button::new(text),
            };
            Action::Release.widget(ui, button, is_captured, asked);
        });
    }

    fn screen(&mut self, ui: &mut Ui, entry: &mut Entry, capture: &SharedCapture, asked: &mut Vec<Action>) {
        let machine = match &entry.life {
            Life::On(machine) => machine.clone(),
            Life::Starting(_) => {
                return message(ui, "Starting…", "The machine is being built.", theme::colours().weak);
            }
            Life::Failed(reason) => {
                return message(ui, "This machine could not be started", reason, theme::colours().bad);
            }
            Life::Off => {
                message(ui, "The machine is off", "Start switches it on.", theme::colours().weak);
                return;
            }
        };
        let state = machine.state();
        match &state {
            RunState::Ended(Ending::Crashed(crash)) => return crash_card::show(ui, entry, crash, asked),
            RunState::Ended(Ending::Failed(reason)) => {
                return message(ui, "The machine could not go on", reason, theme::colours().bad);
            }
            RunState::Running | RunState::Paused | RunState::Ended(_) => {}
        }
        self.fit_monitor(ui, entry, &machine);
        entry.picture.update(ui.ctx(), &entry.name, &machine.frame());
        let is_over = matches!(state, RunState::Ended(_));
        self.picture(ui, entry, &machine, is_over, capture);
        match state {
            RunState::Ended(_) => over(ui, entry, asked),
            RunState::Paused => badge(ui, "paused"),
            RunState::Running => {}
        }
    }

    /// The guest's monitor is as large as the room for it.
    fn fit_monitor(&mut self, ui: &Ui, entry: &Entry, machine: &Arc<dyn Running>) {
        if !machine.takes_size() {
            return self.fitting.forget();
        }
        let room = (ui.max_rect().size() * ui.pixels_per_point()).floor();
        match self.fitting.ask(entry.id, [room.x as u32, room.y as u32], ui.input(|input| input.time)) {
            Ok([width, height]) => machine.resize_screen(width, height),
            Err(Some(later)) => ui.ctx().request_repaint_after(later),
            Err(None) => {}
        }
    }

    fn picture(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &Arc<dyn Running>,
        is_over: bool,
        capture: &SharedCapture,
    ) {
        let Some(size) = entry.picture.size() else {
            return message(
                ui,
                "The screen is dark",
                "The guest has not set a picture yet.",
                theme::colours().weak,
            );
        };
        let area = ui.max_rect();
        let placed = place(self.scaling, size, area, ui.pixels_per_point());
        // A picture larger than the window can be moved under it.
        egui::ScrollArea::both().auto_shrink([false; 2]).show(ui, |ui| {
            let origin = ui.cursor().min - area.min;
            let rect = placed.translate(origin);
            let response = ui.allocate_rect(rect, Sense::click());
            let label = format!("Screen of {}", entry.name);
            response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Image, true, label.clone()));
            entry.picture.paint(ui.painter(), rect, is_over);
            if is_over {
                return;
            }
            let follows = machine.takes_pointer() && !capture.lock().has_mouse();
            if follows {
                self.pointer.follow(ui, &response, rect, &**machine);
            }
            if response.clicked() {
                capture.lock().grab(machine, !follows);
            }
        });
    }
}

fn status(ui: &mut Ui, entry: &Entry, capture: &SharedCapture) {
    let standing = entry.standing();
    let dot = RichText::new("⏺").color(library_page::colour(standing)).small();
    ui.label(dot);
    ui.label(RichText::new(&entry.name).strong());
    ui.label(RichText::new(standing.text()).color(library_page::colour(standing)));
    let follows = entry.machine().is_some_and(|machine| machine.takes_pointer());
    let capture = capture.lock();
    let hint = match (capture.has_keyboard(), capture.has_mouse()) {
        (true, true) => "keyboard and mouse are the guest's · right Ctrl or Ctrl+Alt releases",
        (true, false) if follows => "the keyboard is the guest's, its pointer follows · right Ctrl releases",
        (true, false) => "the keyboard is the guest's · click the screen for the mouse",
        (false, _) if standing == Standing::Running && follows => "click the screen for the keyboard",
        (false, _) if standing == Standing::Running => "click the screen for keyboard and mouse",
        (false, _) => "",
    };
    drop(capture);
    ui.separator();
    if let Some(size) = entry.picture.size() {
        ui.label(RichText::new(format!("{} × {}", size.x, size.y)).color(theme::colours().weak));
        ui.separator();
    }
    if !hint.is_empty() {
        ui.label(RichText::new(hint).color(theme::colours().weak));
        ui.separator();
    }
    if let Some(machine) = entry.machine() {
        let note = machine.backend_note();
        let label = egui::Label::new(RichText::new(&note).color(theme::colours().weak)).truncate();
        ui.add(label).on_hover_text(note);
    }
}

/// Words in the middle of the screen.
fn message(ui: &mut Ui, title: &str, text: &str, colour: Color32) {
    let room = ui.available_height();
    ui.vertical_centered(|ui| {
        ui.add_space(room * 0.36);
        ui.label(RichText::new(title).size(20.0).color(colour).strong());
        ui.add_space(4.0);
        ui.scope(|ui| {
            ui.set_max_width(620.0);
            ui.label(RichText::new(text).color(theme::colours().text));
        });
    });
}

/// The machine has switched itself off: said over its last picture.
fn over(ui: &mut Ui, entry: &Entry, asked: &mut Vec<Action>) {
    let centre = ui.max_rect().center();
    let area = egui::Area::new(ui.id().with("over")).pivot(egui::Align2::CENTER_CENTER).fixed_pos(centre);
    area.show(ui.ctx(), |ui| {
        Frame::window(ui.style()).inner_margin(18).show(ui, |ui| {
            ui.vertical_centered(|ui| {
                ui.set_width(250.0);
                ui.label(RichText::new("The machine is off").size(18.0).strong());
                match entry.origin {
                    Origin::Given => Action::ShowLibrary.button(ui, asked),
                    Origin::Saved | Origin::BuiltIn => Action::Start(entry.id).main_button(ui, true, asked),
                };
            });
        });
    });
}

fn badge(ui: &Ui, text: &str) {
    let at = ui.max_rect().right_top() + egui::vec2(-14.0, 12.0);
    let font = egui::FontId::proportional(15.0);
    ui.painter().text(at, egui::Align2::RIGHT_TOP, text, font, theme::colours().warn);
}
