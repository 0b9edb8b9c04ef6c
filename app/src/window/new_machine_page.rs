//! A new machine, or what a saved one is made of, on one screen.

use egui::{Frame, RichText, Ui};

use engine::backend::Backend;

use super::action::Action;
use super::draft::{CPUS, Draft, Field};
use super::{devices_form, library_page, theme};
use crate::boot;

/// Width of the form.
const WIDTH: f32 = 640.0;

/// Shows the page.
pub fn show(ui: &mut Ui, draft: &mut Draft, is_taken: impl Fn(&str) -> bool, asked: &mut Vec<Action>) {
    egui::Panel::top("new-bar").frame(library_page::bar()).show(ui, |ui| {
        ui.horizontal(|ui| {
            Action::ShowLibrary.button(ui, asked);
            ui.heading(match draft.changes {
                None => "New machine".to_owned(),
                Some(_) => format!("Settings of {}", draft.name),
            });
        });
    });
    let problems = draft.wanted(is_taken).err().unwrap_or_default();
    egui::Panel::bottom("new-deeds").frame(library_page::bar()).show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.add_space(((ui.available_width() - WIDTH) / 2.0).max(0.0));
            deeds(ui, draft, problems.is_empty(), asked);
        });
    });
    let central = Frame::new().fill(theme::colours().background).inner_margin(theme::GAP);
    egui::CentralPanel::default().frame(central).show(ui, |ui| {
        egui::ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
            let margin = ((ui.available_width() - WIDTH) / 2.0).max(0.0);
            ui.horizontal_top(|ui| {
                ui.add_space(margin);
                ui.vertical(|ui| {
                    ui.set_max_width(WIDTH);
                    form(ui, draft, &problems, asked);
                });
            });
        });
    });
}

fn form(ui: &mut Ui, draft: &mut Draft, problems: &[(Field, String)], asked: &mut Vec<Action>) {
    if draft.changes.is_none() {
        boot_field(ui, draft, problems, asked);
        name_field(ui, draft, problems);
    }
    memory_field(ui, draft);
    told(ui, problems, Field::Memory, true);
    let title = self::title(ui, "CPUs");
    ui.spacing_mut().slider_width = 220.0;
    ui.add(egui::Slider::new(&mut draft.profile.cpus, 1..=CPUS)).labelled_by(title.id);
    told(ui, problems, Field::Cpus, true);
    backend_field(ui, draft);
    if draft.changes.is_some() {
        cd_field(ui, draft, problems, asked);
    }
    disks(ui, draft, asked);
    new_disk_field(ui, draft);
    told(ui, problems, Field::Disks, true);
    ui.add_space(12.0);
    let heading = RichText::new("Disk bus, display, network, sound").strong();
    let devices = egui::CollapsingHeader::new(heading).default_open(draft.changes.is_some());
    devices.show(ui, |ui| devices_form::show(ui, &mut draft.profile));
    told(ui, problems, Field::Devices, true);
}

/// What is done with the form; always in view, however long that is.
fn deeds(ui: &mut Ui, draft: &Draft, is_sound: bool, asked: &mut Vec<Action>) {
    let ready = is_sound || !draft.tried;
    match draft.changes {
        Some(id) => Action::SaveSettings(id).main_button(ui, ready, asked),
        None => {
            Action::CreateAndStart.main_button(ui, ready, asked);
            Action::Create.button_if(ui, ready, asked)
        }
    };
}

fn boot_field(ui: &mut Ui, draft: &mut Draft, problems: &[(Field, String)], asked: &mut Vec<Action>) {
    let title = title(ui, "What it boots");
    ui.horizontal(|ui| {
        let hint = "CD, disk or floppy image, kernel, boot sector: path, or drop it here";
        if path_field(ui, &mut draft.boot, hint).labelled_by(title.id).changed() {
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

fn name_field(ui: &mut Ui, draft: &mut Draft, problems: &[(Field, String)]) {
    let title = title(ui, "Name");
    let edit = theme::text_field(&mut draft.name)
        .desired_width(ui.available_width() - 18.0)
        .hint_text("taken from the file");
    if ui.add(edit).labelled_by(title.id).changed() {
        draft.is_named = !draft.name.is_empty();
    }
    told(ui, problems, Field::Name, draft.tried || draft.is_named);
}

fn cd_field(ui: &mut Ui, draft: &mut Draft, problems: &[(Field, String)], asked: &mut Vec<Action>) {
    let title = title(ui, "CD");
    ui.horizontal(|ui| {
        path_field(ui, &mut draft.cd, "none: the drive is empty").labelled_by(title.id);
        Action::Browse.button(ui, asked);
    });
    told(ui, problems, Field::Cd, true);
}

/// The hard disks, beside one that it boots.
fn disks(ui: &mut Ui, draft: &mut Draft, asked: &mut Vec<Action>) {
    title(ui, if draft.changes.is_some() { "Hard disks" } else { "More hard disks" });
    let weak = theme::colours().weak;
    let mut taken_out = None;
    for (number, disk) in draft.profile.disks.iter().enumerate() {
        ui.horizontal(|ui| {
            if ui.button("Take out").on_hover_text("The machine has it no more; its file stays").clicked() {
                taken_out = Some(number);
            }
            ui.add(egui::Label::new(RichText::new(disk.display().to_string()).color(weak)).truncate());
        });
    }
    ui.horizontal(|ui| {
        Action::BrowseDisk.button(ui, asked);
        if draft.profile.disks.is_empty() {
            ui.label(RichText::new("none").color(weak));
        }
    });
    if let Some(number) = taken_out {
        draft.profile.disks.remove(number);
    }
}

fn new_disk_field(ui: &mut Ui, draft: &mut Draft) {
    let title = title(ui, "New, empty disk");
    ui.horizontal(|ui| {
        let edit = theme::text_field(&mut draft.new_disk).desired_width(90.0).hint_text("none");
        ui.add(edit).labelled_by(title.id);
        for (size, text) in [("", "none"), ("8G", "8G"), ("32G", "32G"), ("128G", "128G")] {
            if ui.selectable_label(draft.new_disk.trim() == size, text).clicked() {
                size.clone_into(&mut draft.new_disk);
            }
        }
        let what = "to install a system on; its file grows as it fills";
        ui.label(RichText::new(what).color(theme::colours().weak).small());
    });
}

/// A field for a path, with room for a button beside it.
fn path_field(ui: &mut Ui, path: &mut String, hint: &str) -> egui::Response {
    let width = (ui.available_width() - 108.0).max(100.0);
    ui.add(theme::text_field(path).desired_width(width).hint_text(hint))
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
            ui.radio_value(&mut draft.profile.backend, backend, name);
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
