//! A crash as a card: what went wrong in a sentence, the way from the first fault to the triple fault, and what the guest
//! did last.

use egui::{Frame, RichText, ScrollArea, Stroke, Ui, vec2};
use engine::inspect::exception;
use engine::session::Crash;

use super::action::Action;
use super::chrome;
use super::machines::{Entry, Origin};
use super::theme;
use crate::report;

/// Shows the card over where the screen was.
pub fn show(ui: &mut Ui, entry: &Entry, crash: &Crash, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
        Frame::new().inner_margin(theme::GAP).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 10.0;
            let frame = Frame::new()
                .fill(colours.panel)
                .stroke(Stroke::new(1.0, colours.bad))
                .corner_radius(8)
                .inner_margin(egui::Margin::symmetric(16, 12));
            frame.show(ui, |ui| {
                ui.set_width(ui.available_width());
                let title = format!("The guest crashed: triple fault on CPU {}", crash.cpu);
                ui.label(RichText::new(title).size(19.0).color(colours.bad).strong());
                ui.label(RichText::new(&crash.diagnosis.sentence).size(15.0));
                for entry in crash.diagnosis.obstacles.iter().filter_map(|obstacle| obstacle.entry.as_ref()) {
                    ui.add(egui::Label::new(RichText::new(entry.to_string()).monospace()).wrap());
                }
                ui.horizontal(|ui| {
                    if entry.origin != Origin::Given {
                        Action::Start(entry.id).main_button(ui, true, asked);
                    }
                    let button = egui::Button::new("Look inside");
                    Action::Show(super::page::Page::Registers).widget(ui, button, true, asked);
                    let button = egui::Button::new("Copy report");
                    Action::Copy(report::crash(crash)).widget(ui, button, true, asked);
                });
            });
            let narrow = ui.available_width() < 860.0;
            ui.columns(if narrow { 1 } else { 2 }, |columns| {
                let last = columns.len() - 1;
                chrome::card(&mut columns[0], "The way there", |ui| way(ui, crash));
                chrome::card(&mut columns[last], "The last device accesses, newest first", |ui| {
                    accesses(ui, crash);
                });
            });
            chrome::card(ui, "Registers", |ui| {
                let text = RichText::new(report::registers(&crash.registers)).monospace();
                let label = egui::Label::new(text).wrap_mode(egui::TextWrapMode::Extend);
                ScrollArea::horizontal().show(ui, |ui| ui.add(label.selectable(true)));
            });
        });
    });
}

fn way(ui: &mut Ui, crash: &Crash) {
    let colours = theme::colours();
    egui::Grid::new("way").spacing(vec2(14.0, 4.0)).show(ui, |ui| {
        for (number, fault) in crash.faults.iter().enumerate() {
            ui.label(RichText::new(format!("{}", number + 1)).color(colours.weak));
            ui.label(RichText::new(exception::name(fault.vector)).strong());
            let mut facts = Vec::new();
            facts.extend(fault.error_code.map(|code| format!("error code {code:#x}")));
            facts.extend(fault.address.map(|address| format!("address {address:#x}")));
            let at = fault.registers.as_ref();
            facts.extend(at.map(|r| format!("at {:04x}:{:x}", r.segments[1].selector, r.rip)));
            ui.label(RichText::new(facts.join(", ")).monospace());
            ui.end_row();
        }
        ui.label(RichText::new("!").color(colours.bad));
        ui.label(RichText::new("shutdown").strong().color(colours.bad));
        ui.label(RichText::new("a real PC resets here").color(colours.weak));
        ui.end_row();
    });
    if crash.faults.is_empty() {
        ui.label(RichText::new("The backend could not tell the faults.").color(colours.weak));
    }
    ui.add_space(6.0);
    chrome::heading(ui, "Instruction at RIP");
    let bytes: Vec<String> = crash.code.iter().take(15).map(|byte| format!("{byte:02x}")).collect();
    ui.label(RichText::new(&crash.instruction).monospace().strong());
    ui.label(RichText::new(bytes.join(" ")).monospace().color(colours.weak));
}

fn accesses(ui: &mut Ui, crash: &Crash) {
    let colours = theme::colours();
    if crash.accesses.is_empty() {
        ui.label(RichText::new("The guest touched no device.").color(colours.weak));
    }
    ui.spacing_mut().item_spacing.y = 2.0;
    for told in crash.accesses.iter().rev() {
        chrome::line(ui, |ui| {
            let instruction = format!("{:<26}", told.access.instruction());
            ui.label(RichText::new(instruction).monospace().color(colours.weak));
            ui.add(egui::Label::new(&told.words).truncate());
        });
    }
}
