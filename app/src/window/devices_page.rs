//! The machine's parts as a hand would touch them: media in and out, the network cable, the sound; and what each device
//! has done.

use std::time::Duration;

use egui::{Align2, FontId, Frame, Label, RichText, ScrollArea, Sense, Ui, pos2, vec2};
use engine::machine::{DeviceWork, Drive, DriveWork, LatenessSummary};
use engine::sound::SoundStatus;
use engine::stats::Stats;

use super::action::Action;
use super::machines::Entry;
use super::{chrome, setting, theme};
use crate::control::Command;
use crate::control::parts::Cable;
use crate::running::Running;

/// Width of the cards.
const WIDTH: f32 = 900.0;
/// How often figures are shown anew.
const SHOWN_EVERY: Duration = Duration::from_millis(250);

/// Shows the page. `stats`: what the machine counted lately.
pub fn show(ui: &mut Ui, entry: &Entry, machine: &dyn Running, stats: &Stats, asked: &mut Vec<Action>) {
    ui.ctx().request_repaint_after(SHOWN_EVERY);
    let frame = Frame::new().fill(theme::colours().background).inner_margin(14);
    egui::CentralPanel::default().frame(frame).show(ui, |ui| {
        ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
            ui.set_max_width(WIDTH);
            ui.spacing_mut().item_spacing.y = 10.0;
            let drives = machine.session().map(|session| session.drives()).unwrap_or_default();
            chrome::card(ui, "Drives", |ui| media(ui, entry, &drives, asked));
            chrome::card(ui, "Network", |ui| network(ui, entry, machine, stats, asked));
            chrome::card(ui, "Sound", |ui| sound(ui, entry, &machine.sound(), asked));
            chrome::card(ui, "What each device has done", |ui| devices(ui, &stats.work));
            if !stats.drives.is_empty() {
                chrome::card(ui, "What each disk has done", |ui| disks(ui, &stats.drives));
            }
        });
    });
}

fn media(ui: &mut Ui, entry: &Entry, drives: &[Drive], asked: &mut Vec<Action>) {
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
                let insert = egui::Button::new(format!("Insert into {}…", drive.name));
                Action::BrowseMedium(entry.id, drive.name.clone()).widget(ui, insert, true, asked);
                let medium =
                    drive.medium.as_ref().map_or("empty".to_owned(), |path| path.display().to_string());
                ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                    ui.add(Label::new(RichText::new(medium).color(colours.weak)).truncate());
                });
            });
        });
    }
}

/// A drive as people call it.
pub fn name(drive: &str) -> &str {
    match drive {
        "cdrom" => "CD",
        "floppy" => "Floppy",
        other => other,
    }
}

fn network(ui: &mut Ui, entry: &Entry, machine: &dyn Running, stats: &Stats, asked: &mut Vec<Action>) {
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
        let (sent, received) = (&network.link.sent, &network.link.received);
        let told = format!(
            "{} · {} frames sent, {} received, {} lost",
            network.leads_to,
            sent.frames,
            received.frames,
            sent.dropped + received.dropped
        );
        ui.add(Label::new(RichText::new(told).color(weak)).truncate());
    });
    let rate = machine.throttles().network_bytes.map_or("none".to_owned(), |size| size.to_string());
    let thousandths = |number: u32| (f64::from(number) / 1e3).to_string();
    for (setting, value) in [
        (("network-latency", "latency, ms"), thousandths(network.line.latency_us)),
        (("network-jitter", "jitter, ms"), thousandths(network.line.jitter_us)),
        (("network-loss", "loss, %"), (f64::from(network.line.lost_per_million) / 1e4).to_string()),
        (("network-rate", "data a second"), rate),
    ] {
        ui.horizontal(|ui| setting::field(ui, entry.id, setting, &value, asked));
    }
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
    let losses = crate::control::sound::losses(status);
    ui.label(
        RichText::new(losses.unwrap_or("Nothing was lost on the way.".to_owned()))
            .small()
            .color(colours.weak),
    );
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
