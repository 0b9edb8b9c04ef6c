//! A new machine, on one screen.

use egui::{Frame, RichText, Ui};

use engine::backend::Backend;

use super::action::Action;
use super::draft::{CPUS, Draft, Field};
use super::{library_page, theme};
use crate::boot;

/// Shows the page.
pub fn show(ui: &mut Ui, draft: &mut Draft, is_taken: impl Fn(&str) -> bool, asked: &mut Vec<Action>) {
    egui::Panel::top("new-bar").frame(library_page::bar()).show(ui, |ui| {
        ui.horizontal(|ui| {
            Action::ShowLibrary.button(ui, asked);
            ui.heading("New machine");
        });
    });
    let problems = draft.profile(is_taken).err().unwrap_or_default();
    let central = Frame::new().fill(theme::colours().background).inner_margin(theme::GAP);
    egui::CentralPanel::default().frame(central).show(ui, |ui| {
        egui::ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
            let margin = ((ui.available_width() - 640.0) / 2.0).max(0.0);
            ui.horizontal_top(|ui| {
                ui.add_space(margin);
                ui.vertical(|ui| {
                    ui.set_max_width(640.0);
                    form(ui, draft, &problems, asked);
                });
            });
        });
    });
}

fn form(ui: &mut Ui, draft: &mut Draft, problems: &[(Field, String)], asked: &mut Vec<Action>) {
    boot_field(ui, draft, problems, asked);
    let title = title(ui, "Name");
    let edit = theme::text_field(&mut draft.name)
        .desired_width(ui.available_width() - 18.0)
        .hint_text("taken from the file");
    if ui.add(edit).labelled_by(title.id).changed() {
        draft.is_named = !draft.name.is_empty();
    }
    told(ui, problems, Field::Name, draft.tried || draft.is_named);
    memory_field(ui, draft);
    told(ui, problems, Field::Memory, true);
    let title = self::title(ui, "CPUs");
    ui.spacing_mut().slider_width = 220.0;
    ui.add(egui::Slider::new(&mut draft.cpus, 1..=CPUS)).labelled_by(title.id);
    told(ui, problems, Field::Cpus, true);
    backend_field(ui, draft);
    ui.add_space(22.0);
    ui.horizontal(|ui| {
        let ready = problems.is_empty();
        Action::CreateAndStart.main_button(ui, ready || !draft.tried, asked);
        Action::Create.button_if(ui, ready || !draft.tried, asked);
    });
}

fn boot_field(ui: &mut Ui, draft: &mut Draft, problems: &[(Field, String)], asked: &mut Vec<Action>) {
    let title = title(ui, "What it boots");
    ui.horizontal(|ui| {
        let width = (ui.available_width() - 108.0).max(100.0);
        let hint = "CD, disk or floppy image, kernel, boot sector: path, or drop it here";
        let edit = theme::text_field(&mut draft.boot).desired_width(width).hint_text(hint);
        let response = ui.add(edit).labelled_by(title.id);
        if response.changed() {
            let path = draft.boot.trim().to_owned();
            if !path.is_empty() && std::path::Path::new(&path).is_file() {
                draft.take_file(std::path::Path::new(&path));
            }
        }
        Action::Browse.button(ui, asked);
    });
    if let Some(Ok(kind)) = draft.kind() {
        ui.label(RichText::new(format!("✔ {}", boot::kind_name(kind))).color(theme::colours().good).small());
    }
    told(ui, problems, Field::Boot, draft.tried || !draft.boot.trim().is_empty());
}

fn memory_field(ui: &mut Ui, draft: &mut Draft) {
    let title = title(ui, "Memory");
    ui.horizontal(|ui| {
        ui.add(theme::text_field(&mut draft.memory).desired_width(90.0)).labelled_by(title.id);
        for size in ["16M", "64M", "256M", "512M", "1G", "2G"] {
            if ui.selectable_label(draft.memory == size, size).clicked() {
                draft.memory = size.to_owned();
            }
        }
    });
}

fn backend_field(ui: &mut Ui, draft: &mut Draft) {
    title(ui, "Backend");
    for (backend, name, what) in [
        (Backend::Auto, "Auto", "KVM where this computer's is fast, else our own CPU"),
        (Backend::Kvm, "KVM", "the host's; fast on hardware, needs /dev/kvm"),
        (Backend::Soft, "Soft", "our own CPU; works everywhere, sees everything"),
    ] {
        ui.horizontal(|ui| {
            ui.radio_value(&mut draft.backend, backend, name);
            ui.label(RichText::new(what).color(theme::colours().weak).small());
        });
    }
}

fn title(ui: &mut Ui, text: &str) -> egui::Response {
    ui.add_space(12.0);
    ui.label(RichText::new(text).strong())
}

fn told(ui: &mut Ui, problems: &[(Field, String)], field: Field, shown: bool) {
    for (_, reason) in problems.iter().filter(|(of, _)| shown && *of == field) {
        ui.label(RichText::new(reason).color(theme::colours().bad).small());
    }
}
