//! The machine's parts as a hand would touch them: media in and out, the network cable, the sound; and what each device
//! has done.

use std::path::PathBuf;

use egui::{Align2, FontId, Frame, Label, RichText, ScrollArea, Sense, Ui, pos2, vec2};
use engine::machine::{DeviceWork, Drive, DriveWork, LatenessSummary};
use engine::sound::SoundStatus;
use engine::stats::Stats;

use super::action::Action;
use super::file_picker::{Choice, FilePicker};
use super::machines::{Entry, Id};
use super::{chrome, theme};
use crate::control::Command;
use crate::control::parts::Cable;
use crate::running::Running;

/// Width of the cards.
const WIDTH: f32 = 900.0;
/// How often figures are read, in seconds.
const READ_SECONDS: f64 = 0.25;

/// The page's own state.
#[derive(Default)]
pub struct DevicesPage {
    /// A file is being chosen for this drive.
    picking: Option<(Id, String, FilePicker)>,
    stats: Stats,
    /// Whose figures they are, and when they were read.
    read: Option<(Id, f64)>,
}

impl DevicesPage {
    /// Shows the page.
    pub fn show(&mut self, ui: &mut Ui, entry: &Entry, machine: &dyn Running, asked: &mut Vec<Action>) {
        let now = ui.input(|input| input.time);
        ui.ctx().request_repaint_after_secs(READ_SECONDS as f32);
        if !self.read.is_some_and(|(id, then)| id == entry.id && now - then < READ_SECONDS) {
            (self.stats, self.read) = (machine.stats(), Some((entry.id, now)));
        }
        let frame = Frame::new().fill(theme::colours().background).inner_margin(14);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
                ui.set_max_width(WIDTH);
                ui.spacing_mut().item_spacing.y = 10.0;
                let drives = machine.session().map(|session| session.drives()).unwrap_or_default();
                chrome::card(ui, "Drives", |ui| self.drives(ui, entry, &drives, asked));
                chrome::card(ui, "Network", |ui| network(ui, entry, &self.stats, asked));
                chrome::card(ui, "Sound", |ui| sound(ui, entry, &machine.sound(), asked));
                chrome::card(ui, "What each device has done", |ui| devices(ui, &self.stats.work));
                if !self.stats.drives.is_empty() {
                    chrome::card(ui, "What each disk has done", |ui| disks(ui, &self.stats.drives));
                }
            });
        });
        self.pick(ui.ctx(), asked);
    }

    fn drives(&mut self, ui: &mut Ui, entry: &Entry, drives: &[Drive], asked: &mut Vec<Action>) {
        let colours = theme::colours();
        if drives.is_empty() {
            ui.label(RichText::new("No drive whose disk can be changed.").color(colours.weak));
        }
        for drive in drives {
            ui.horizontal(|ui| {
                ui.label(RichText::new(name(&drive.name)).strong());
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    let eject = Action::Do(entry.id, Command::Eject { drive: drive.name.clone() });
                    eject.button_if(ui, drive.medium.is_some(), asked);
                    let insert = ui.button(format!("Insert into {}…", drive.name));
                    if insert.on_hover_text("Put another disk into the drive, as a hand would").clicked() {
                        let near = drive.medium.clone().unwrap_or_default();
                        let title = format!("Choose what goes into the {} drive", name(&drive.name));
                        let picker = FilePicker::new(title, &near);
                        self.picking = Some((entry.id, drive.name.clone(), picker));
                    }
                    let medium =
                        drive.medium.as_ref().map_or("empty".to_owned(), |path| path.display().to_string());
                    ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                        ui.add(Label::new(RichText::new(medium).color(colours.weak)).truncate());
                    });
                });
            });
        }
    }

    fn pick(&mut self, ctx: &egui::Context, asked: &mut Vec<Action>) {
        let Some((id, drive, picker)) = &mut self.picking else { return };
        match picker.show(ctx) {
            Choice::Open => return,
            Choice::File(file) => asked.push(insert(*id, drive, file)),
            Choice::Cancelled => {}
        }
        self.picking = None;
    }
}

fn insert(id: Id, drive: &str, file: PathBuf) -> Action {
    Action::Do(id, Command::Insert { drive: drive.to_owned(), file })
}

fn name(drive: &str) -> &str {
    match drive {
        "cdrom" => "CD",
        "floppy" => "Floppy",
        other => other,
    }
}

fn network(ui: &mut Ui, entry: &Entry, stats: &Stats, asked: &mut Vec<Action>) {
    let weak = theme::colours().weak;
    let Some(network) = &stats.network else {
        ui.label(RichText::new("No network card.").color(weak));
        return;
    };
    ui.horizontal(|ui| {
        for (text, state) in [("Plugged in", Cable::On), ("Pulled out", Cable::Off)] {
            let button = egui::Button::selectable(network.plugged == (state == Cable::On), text);
            Action::Do(entry.id, Command::Cable { state }).widget(ui, button, true, asked);
        }
    });
}

fn sound(ui: &mut Ui, entry: &Entry, status: &SoundStatus, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    let ask = |volume, mute| Action::Do(entry.id, Command::Sound { volume, mute, source: None });
    ui.horizontal(|ui| {
        let mut percent = (status.volume * 100.0).round() as u32;
        let label = ui.label("Volume");
        let slider = ui.add(egui::Slider::new(&mut percent, 0..=100).suffix(" %")).labelled_by(label.id);
        if slider.changed() {
            asked.push(ask(Some(percent), None));
        }
        for (text, muted) in [("Heard", false), ("Muted", true)] {
            let button = egui::Button::selectable(status.muted == muted, text);
            ask(None, Some(muted)).widget(ui, button, true, asked);
        }
        let (text, colour) = match &status.problem {
            Some(problem) => (problem, colours.warn),
            None => (&status.output, colours.weak),
        };
        ui.add(Label::new(RichText::new(text).color(colour)).truncate());
    });
}

/// A column of figures: its heading, and its right edge in points.
type Column = (&'static str, f32);

fn table(ui: &mut Ui, first: &str, columns: &[Column], rows: impl Iterator<Item = (String, Vec<String>)>) {
    let colours = theme::colours();
    let font = FontId::monospace(12.0);
    let mut line = |name: &str, cells: &[String], colour| {
        let (row, _) = ui.allocate_exact_size(vec2(ui.available_width(), 17.0), Sense::hover());
        let painter = ui.painter();
        chrome::cell(painter, row, 0.0, name.to_owned(), &font, colour);
        for ((_, right), cell) in columns.iter().zip(cells) {
            let at = pos2(row.left() + right, row.center().y);
            painter.text(at, Align2::RIGHT_CENTER, cell, font.clone(), colour);
        }
    };
    let headings: Vec<String> = columns.iter().map(|(text, _)| (*text).to_owned()).collect();
    line(first, &headings, colours.weak);
    for (name, cells) in rows {
        line(&name, &cells, colours.text);
    }
}

fn devices(ui: &mut Ui, work: &[DeviceWork]) {
    let columns = [
        ("reads", 260.0),
        ("writes", 360.0),
        ("bytes", 480.0),
        ("interrupts", 590.0),
        ("access p50 / p99, µs", 760.0),
    ];
    let row = |device: &DeviceWork| {
        let count = |n: u64| n.to_string();
        let cells = vec![
            count(device.reads),
            count(device.writes),
            count(device.bytes),
            count(device.interrupts),
            microseconds(&device.access),
        ];
        (device.device.clone(), cells)
    };
    let used = work.iter().filter(|device| device.reads + device.writes + device.interrupts > 0);
    table(ui, "device", &columns, used.map(row));
}

fn disks(ui: &mut Ui, drives: &[DriveWork]) {
    let columns = [
        ("bytes read", 240.0),
        ("bytes written", 380.0),
        ("read, µs", 520.0),
        ("write, µs", 660.0),
        ("flush, µs", 800.0),
    ];
    let row = |drive: &DriveWork| {
        let cells = vec![
            drive.bytes_read.to_string(),
            drive.bytes_written.to_string(),
            microseconds(&drive.reads),
            microseconds(&drive.writes),
            microseconds(&drive.flushes),
        ];
        (drive.drive.clone(), cells)
    };
    table(ui, "disk", &columns, drives.iter().map(row));
}

/// Half took at most the first, 99 of 100 the second.
fn microseconds(summary: &LatenessSummary) -> String {
    match summary.count {
        0 => "-".to_owned(),
        _ => format!("{:.1} / {:.1}", summary.p50_ns as f64 / 1e3, summary.p99_ns as f64 / 1e3),
    }
}
