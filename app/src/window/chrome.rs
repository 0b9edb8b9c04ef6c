//! What surrounds every instrument page: which machine is looked at, and the `ctl` line of what was just clicked.

use egui::{Align, Align2, Color32, FontId, Frame, Layout, Painter, Rect, RichText, Ui, vec2};

use super::action::Action;
use super::machines::{Entry, Id, Machines, Origin, Standing};
use super::page::Page;
use super::{library_page, theme};

/// The top bar: the page's name, a chip for each machine that runs, and pause or resume.
pub fn machine_bar(
    ui: &mut Ui,
    page: Page,
    machines: &Machines,
    current: Option<Id>,
    asked: &mut Vec<Action>,
) {
    egui::Panel::top("machine-bar").frame(library_page::bar()).show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(RichText::new(page.text()).size(17.0).strong());
            ui.separator();
            for entry in machines.entries().filter(|entry| is_offered(page, entry)) {
                let standing = entry.standing();
                let text = RichText::new(&entry.name);
                let chosen = page.is_of_a_machine() && current == Some(entry.id);
                let dot = RichText::new("⏺").color(library_page::colour(standing)).small();
                ui.scope(|ui| {
                    ui.spacing_mut().item_spacing.x = 4.0;
                    ui.label(dot).on_hover_text(standing.text());
                    let button = egui::Button::selectable(chosen, text);
                    Action::Watch(entry.id).widget(ui, button, page.is_of_a_machine(), asked);
                });
            }
            let standing = current.and_then(|id| machines.get(id)).map(|entry| entry.standing());
            if let (Some(id), Some(standing), true) = (current, standing, page.is_of_a_machine()) {
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    match standing {
                        // It has these beside its steps.
                        Standing::Running | Standing::Paused if page == Page::Registers => {}
                        Standing::Running => {
                            Action::Pause(id).button(ui, asked);
                        }
                        Standing::Paused => {
                            Action::Resume(id).main_button(ui, true, asked);
                        }
                        _ => {
                            Action::Show(Page::Console).button(ui, asked);
                        }
                    }
                    ui.label(RichText::new(standing.text()).color(library_page::colour(standing)));
                });
            }
        });
    });
}

/// Whether the page can look at it: at saved states also while it is off.
fn is_offered(page: Page, entry: &Entry) -> bool {
    entry.machine().is_some() || page == Page::Snapshots && entry.origin == Origin::Saved
}

/// The bottom line: how a program, or a person in a terminal, does what was just clicked.
pub fn command_line(ui: &mut Ui, said: Option<&str>, cost: &str, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    let frame = Frame::new().fill(colours.panel).inner_margin(egui::Margin::symmetric(14, 5));
    egui::Panel::bottom("command-line").frame(frame).show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.spacing_mut().interact_size.y = 22.0;
            ui.spacing_mut().button_padding.y = 2.0;
            match said {
                Some(said) => {
                    ui.label(RichText::new("$").monospace().color(colours.accent));
                    ui.add(egui::Label::new(RichText::new(said).monospace()).selectable(true).truncate());
                    Action::Copy(said.to_owned()).button(ui, asked);
                }
                None => {
                    let hint = "what you click here is shown as a vitrine ctl command";
                    ui.label(RichText::new(hint).color(colours.weak).small());
                }
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.add(egui::Label::new(RichText::new(cost).color(colours.weak).small()).truncate());
            });
        });
    });
}

/// A page with nothing to show: what is missing, and the button that mends it.
pub fn empty(ui: &mut Ui, title: &str, text: &str, action: Option<Action>, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    let room = ui.available_height();
    ui.vertical_centered(|ui| {
        ui.add_space(room * 0.32);
        ui.label(RichText::new(title).size(20.0).strong());
        ui.add_space(2.0);
        ui.scope(|ui| {
            ui.set_max_width(560.0);
            ui.label(RichText::new(text).color(colours.weak));
        });
        if let Some(action) = action {
            ui.add_space(10.0);
            action.main_button(ui, true, asked);
        }
    });
}

/// A line of text no higher than its text: for lists and figures.
pub fn line<R>(ui: &mut Ui, contents: impl FnOnce(&mut Ui) -> R) -> R {
    ui.scope(|ui| {
        ui.spacing_mut().interact_size.y = 17.0;
        ui.horizontal(contents).inner
    })
    .inner
}

/// A figure with its name and unit.
pub fn figure(ui: &mut Ui, name: &str, value: &str) {
    line(ui, |ui| {
        ui.label(RichText::new(name).color(theme::colours().weak));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.add(egui::Label::new(RichText::new(value).monospace()).truncate());
        });
    });
}

/// Text in a row of a list that is drawn, `x` points from its left edge.
pub fn cell(painter: &Painter, row: Rect, x: f32, text: String, font: &FontId, colour: Color32) {
    painter.text(row.left_center() + vec2(x, 0.0), Align2::LEFT_CENTER, text, font.clone(), colour);
}

/// The heading of a part of a page.
pub fn heading(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).size(12.0).strong().color(theme::colours().weak));
}

/// A part of a page: a card with a heading.
pub fn card<R>(ui: &mut Ui, title: &str, contents: impl FnOnce(&mut Ui) -> R) -> R {
    let colours = theme::colours();
    let frame = Frame::new()
        .fill(colours.panel)
        .stroke(egui::Stroke::new(1.0, colours.line))
        .corner_radius(8)
        .inner_margin(egui::Margin::symmetric(12, 9));
    frame
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            if !title.is_empty() {
                heading(ui, title);
            }
            // Not as wide as the card by all means: a column justifies even what is written in it.
            ui.with_layout(Layout::top_down(Align::Min), contents).inner
        })
        .inner
}
