//! The library: a card per machine with its live picture.

use egui::{Align, Color32, Frame, Layout, RichText, Sense, Stroke, Ui, vec2};

use super::action::Action;
use super::machines::{Entry, Life, Machines, Origin, Standing};
use super::picture::{Scaling, place};
use super::theme;
use crate::boot;

/// Shows the page; what was asked for goes to `asked`.
pub fn show(ui: &mut Ui, machines: &mut Machines, asked: &mut Vec<Action>) {
    egui::Panel::top("library-bar").frame(bar()).show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.heading(RichText::new("Vitrine").strong());
            ui.label(RichText::new("machines you can see through").color(theme::colours().weak));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                Action::NewMachine.main_button(ui, true, asked);
            });
        });
    });
    let central = Frame::new().fill(theme::colours().background).inner_margin(theme::GAP);
    egui::CentralPanel::default().frame(central).show(ui, |ui| {
        egui::ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
            if !machines.entries().any(|entry| entry.origin == Origin::Saved) {
                invitation(ui);
            }
            cards(ui, machines, asked);
        });
    });
}

/// The frame of a bar.
pub fn bar() -> Frame {
    Frame::new().fill(theme::colours().panel).inner_margin(egui::Margin::symmetric(14, 9))
}

fn invitation(ui: &mut Ui) {
    let frame = Frame::new()
        .stroke(Stroke::new(1.0, theme::colours().line))
        .fill(theme::colours().panel)
        .corner_radius(10)
        .inner_margin(egui::Margin::symmetric(18, 14));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new("You have no machines yet").size(16.0).strong());
        ui.label(
            RichText::new(
                "Drop a CD image, a disk, a floppy, a kernel or a boot sector on this window: it becomes a \
                 machine and starts. Or try the guest below, which needs nothing.",
            )
            .color(theme::colours().weak),
        );
    });
    ui.add_space(theme::GAP);
}

fn cards(ui: &mut Ui, machines: &mut Machines, asked: &mut Vec<Action>) {
    let ids: Vec<_> = machines.entries().map(|entry| entry.id).collect();
    ui.spacing_mut().item_spacing = vec2(theme::GAP, theme::GAP);
    let across =
        ((ui.available_width() + theme::GAP) / (theme::CARD_WIDTH + 2.0 + theme::GAP)).floor().max(1.0);
    for row in ids.chunks(across as usize) {
        ui.horizontal_top(|ui| {
            for id in row {
                if let Some(entry) = machines.get_mut(*id) {
                    ui.push_id(id, |ui| card(ui, entry, asked));
                }
            }
        });
    }
}

fn card(ui: &mut Ui, entry: &mut Entry, asked: &mut Vec<Action>) {
    entry.picture.recall(ui.ctx(), &entry.name);
    if let Life::On(machine) = &entry.life {
        entry.picture.update(ui.ctx(), &entry.name, &machine.frame());
    }
    let frame = Frame::new()
        .fill(theme::colours().card)
        .corner_radius(10)
        .stroke(Stroke::new(1.0, theme::colours().line));
    frame.show(ui, |ui| {
        ui.set_width(theme::CARD_WIDTH);
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing = vec2(8.0, 5.0);
            screen(ui, entry, asked);
            Frame::new().inner_margin(egui::Margin { left: 12, right: 12, top: 4, bottom: 12 }).show(
                ui,
                |ui| {
                    ui.set_width(theme::CARD_WIDTH - 24.0);
                    words(ui, entry);
                    ui.add_space(4.0);
                    ui.horizontal(|ui| buttons(ui, entry, asked));
                },
            );
        });
    });
}

/// The picture on top; clicked, it opens or starts the machine.
fn screen(ui: &mut Ui, entry: &Entry, asked: &mut Vec<Action>) {
    let (rect, response) =
        ui.allocate_exact_size(vec2(theme::CARD_WIDTH, theme::CARD_PICTURE), Sense::click());
    let corners = egui::CornerRadius { nw: 9, ne: 9, sw: 0, se: 0 };
    ui.painter().rect_filled(rect, corners, Color32::BLACK);
    match entry.picture.size() {
        Some(size) => {
            let inside = place(Scaling::Fit, size, rect.shrink(3.0), ui.pixels_per_point());
            entry.picture.paint(ui.painter(), inside, !entry.is_alive());
        }
        None => {
            let text = if entry.origin == Origin::BuiltIn { "Try it" } else { "not started yet" };
            let centre = egui::Align2::CENTER_CENTER;
            ui.painter().text(
                rect.center(),
                centre,
                text,
                egui::FontId::proportional(18.0),
                theme::colours().weak,
            );
        }
    }
    let label = format!("Screen of {}", entry.name);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Button, true, label.clone()));
    if response.on_hover_cursor(egui::CursorIcon::PointingHand).clicked() {
        asked.push(if entry.machine().is_some() { Action::Open(entry.id) } else { Action::Start(entry.id) });
    }
}

fn words(ui: &mut Ui, entry: &Entry) {
    let standing = entry.standing();
    ui.horizontal(|ui| {
        let (spot, _) = ui.allocate_exact_size(vec2(9.0, 18.0), Sense::hover());
        ui.painter().circle_filled(spot.center(), 4.5, colour(standing));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.label(RichText::new(standing.text()).color(colour(standing)).small());
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                ui.add(egui::Label::new(RichText::new(&entry.name).strong().size(15.5)).truncate());
            });
        });
    });
    let (first, second) = match &entry.profile {
        Ok(profile) => {
            let cpus = if profile.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", profile.cpus) };
            let backend = match profile.backend {
                engine::backend::Backend::Auto => String::new(),
                other => format!(" · {other}"),
            };
            let boots = match entry.origin {
                Origin::BuiltIn => "comes with Vitrine, needs no files".to_owned(),
                Origin::Saved | Origin::Given => boot::boots(profile),
            };
            (boots, format!("{} memory · {cpus}{backend}", profile.memory))
        }
        Err(reason) => (reason.clone(), "mend or delete its profile".to_owned()),
    };
    let reason = match &entry.life {
        Life::Failed(reason) => Some(reason),
        Life::Off | Life::Starting(_) | Life::On(_) => None,
    };
    let first = egui::Label::new(RichText::new(&first).color(theme::colours().weak)).truncate();
    ui.add(first);
    match reason {
        Some(reason) => {
            let label =
                egui::Label::new(RichText::new(reason).color(theme::colours().bad).small()).truncate();
            ui.add(label).on_hover_text(reason);
        }
        None => {
            ui.label(RichText::new(second).color(theme::colours().weak).small());
        }
    }
}

fn buttons(ui: &mut Ui, entry: &Entry, asked: &mut Vec<Action>) {
    let id = entry.id;
    match entry.standing() {
        Standing::Running | Standing::Paused => {
            Action::Open(id).main_button(ui, true, asked);
            Action::PowerOff(id).button(ui, asked);
        }
        Standing::Starting => {
            ui.add(egui::Spinner::new().size(18.0));
            ui.label(RichText::new("starting…").color(theme::colours().weak));
        }
        Standing::Crashed => {
            Action::Open(id).main_button(ui, true, asked);
            Action::Start(id).button(ui, asked);
        }
        Standing::Off | Standing::Failed if entry.origin == Origin::BuiltIn => {
            let text = RichText::new("Try it").color(theme::colours().on_accent).strong();
            let button = egui::Button::new(text).fill(theme::colours().accent);
            Action::Start(id).widget(ui, button, true, asked);
        }
        Standing::Suspended => {
            Action::Continue(id).main_button(ui, true, asked);
        }
        Standing::Off | Standing::Failed => {
            Action::Start(id).main_button(ui, true, asked);
        }
        Standing::Damaged => {}
    }
    if entry.origin == Origin::Saved && !entry.is_alive() {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.menu_button("More ⏷", |ui| {
                Action::ShowSnapshots(id).button(ui, asked);
                Action::Ask(Box::new(Action::Delete(id))).button(ui, asked);
            });
            if entry.profile.is_ok() {
                Action::Settings(id).button(ui, asked);
            }
        });
    }
}

/// The colour of a standing.
pub fn colour(standing: Standing) -> Color32 {
    match standing {
        Standing::Running => theme::colours().good,
        Standing::Starting => theme::colours().accent,
        Standing::Paused => theme::colours().warn,
        Standing::Crashed | Standing::Failed | Standing::Damaged => theme::colours().bad,
        Standing::Suspended => theme::colours().accent,
        Standing::Off => theme::colours().weak,
    }
}
