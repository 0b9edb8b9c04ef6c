//! Bits, tables and page walks of the registers page: what lies behind register values, in words.

use cpu::Registers;
use egui::{RichText, ScrollArea, Ui, vec2};
use engine::inspect::{self, bits, descriptor, exception, task};

use super::super::chrome;
use super::super::theme;
use crate::control::number;
use crate::running::Running;

/// From a linear address to the physical one, with every table on the way.
pub fn walk(ui: &mut Ui, address: &mut String, registers: &Registers, machine: &dyn Running) {
    let colours = theme::colours();
    ui.horizontal(|ui| {
        ui.label("Linear address");
        ui.add(theme::text_field(&mut *address).hint_text("RIP").desired_width(190.0));
        for (text, value) in [
            ("RIP", registers.linear_rip()),
            ("RSP", registers.general[4]),
            ("IDT", registers.idtr.base),
            ("GDT", registers.gdtr.base),
        ] {
            if ui.button(text).clicked() {
                *address = format!("{value:#x}");
            }
        }
    });
    let linear = match address.trim() {
        "" => Ok(registers.linear_rip()),
        text => number(text),
    };
    let walk = match linear {
        Ok(address) => inspect::walk(registers, machine.memory(), address),
        Err(reason) => {
            ui.label(RichText::new(reason).color(colours.bad));
            return;
        }
    };
    ui.label(RichText::new(format!("linear {:#x}", walk.linear)).monospace().strong());
    egui::Grid::new("walk").striped(true).spacing(vec2(22.0, 4.0)).show(ui, |ui| {
        for head in ["table", "entry at (guest-physical)", "entry", "flags"] {
            ui.label(RichText::new(head).small().color(colours.weak));
        }
        ui.end_row();
        for step in &walk.steps {
            ui.label(step.table);
            ui.label(RichText::new(format!("{:#014x}", step.address)).monospace());
            ui.label(RichText::new(format!("{:016x}", step.value)).monospace());
            ui.label(RichText::new(&step.flags).monospace());
            ui.end_row();
        }
    });
    ui.label(RichText::new(walk.in_words()).color(colours.accent));
    let text = "P present · W writable · U user · A accessed · D dirty · PS large page · G global · NX no execution. Intel SDM 3A, chapter 5";
    ui.label(RichText::new(text).small().color(colours.weak));
}

/// Every register whose bits have words, bit by bit.
pub fn all_bits(ui: &mut Ui, registers: &Registers) {
    let colours = theme::colours();
    ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
        for register in bits::all(registers) {
            ui.horizontal(|ui| {
                ui.label(RichText::new(register.name).strong().size(15.0));
                ui.label(RichText::new(format!("{:016x}", register.value)).monospace());
                ui.label(RichText::new(register.source).small().color(colours.weak));
            });
            egui::Grid::new(register.name).striped(true).spacing(vec2(14.0, 1.0)).min_row_height(16.0).show(
                ui,
                |ui| {
                    for bit in register.bits {
                        let colour = if bit.is_set { colours.text } else { colours.weak };
                        ui.label(RichText::new(format!("{:>2}", bit.bit)).monospace().color(colours.weak));
                        let state = RichText::new(if bit.is_set { "1" } else { "0" }).monospace();
                        ui.label(state.color(if bit.is_set { colours.accent } else { colours.weak }));
                        ui.label(RichText::new(bit.name).monospace().color(colour));
                        ui.label(RichText::new(bit.meaning).color(colour));
                        ui.end_row();
                    }
                },
            );
            ui.add_space(8.0);
        }
    });
}

/// A descriptor table in words.
pub fn table(ui: &mut Ui, entries: &[descriptor::Entry], vectors: bool) {
    let colours = theme::colours();
    if entries.is_empty() {
        let text = "The table is empty, or its memory cannot be read: its register is still as after reset.";
        ui.label(RichText::new(text).color(colours.weak));
        return;
    }
    ui.spacing_mut().item_spacing.y = 2.0;
    ScrollArea::vertical().auto_shrink([false; 2]).show_rows(ui, 16.0, entries.len(), |ui, range| {
        for entry in &entries[range] {
            chrome::line(ui, |ui| {
                ui.label(RichText::new(format!("{:04x}", entry.number)).monospace().color(colours.weak));
                let words = format!("{:<58}", entry.descriptor.in_words());
                ui.add(
                    egui::Label::new(RichText::new(words).monospace()).wrap_mode(egui::TextWrapMode::Extend),
                );
                if vectors && entry.number < 32 {
                    ui.label(RichText::new(exception::name(entry.number as u8)).color(colours.weak));
                }
            });
        }
    });
}

/// The fields of the task-state segment.
pub fn fields(ui: &mut Ui, fields: &[task::Field]) {
    let colours = theme::colours();
    if fields.is_empty() {
        let text = "No task register is loaded: the processor has no TSS to take a stack from.";
        ui.label(RichText::new(text).color(colours.weak));
        return;
    }
    egui::Grid::new("tss").striped(true).spacing(vec2(20.0, 3.0)).show(ui, |ui| {
        for field in fields {
            ui.label(&field.name);
            ui.label(RichText::new(format!("{:#018x}", field.value)).monospace());
            ui.end_row();
        }
    });
}
