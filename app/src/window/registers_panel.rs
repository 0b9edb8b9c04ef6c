//! The register panel: all registers of the running machine, live, with changes marked.

use std::time::Duration;

use egui::{Align, CollapsingHeader, Layout, RichText, Ui, vec2};
use engine::inspect::bits::{self, Explained};

use super::changes::Changes;
use super::theme;
use crate::control::debug;
use crate::register_rows::{GROUPS, Group, Row, local_apic, rows};
use crate::running::Running;

/// How often the panel looks at the machine.
const REFRESH: Duration = Duration::from_millis(50);

/// Width of a character of the panel's font, in points.
const CHARACTER_WIDTH: f32 = 7.5;

/// What the panel remembers.
#[derive(Default)]
pub struct RegistersPanel {
    cpu: usize,
    changes: Changes,
}

impl RegistersPanel {
    /// Forgets what it saw of another machine.
    pub fn restart(&mut self) {
        *self = RegistersPanel::default();
    }

    /// Which vCPU is shown.
    pub fn cpu(&self) -> usize {
        self.cpu
    }

    /// Shows the panel.
    pub fn show(&mut self, ui: &mut Ui, machine: &dyn Running, is_running: bool) {
        ui.horizontal(|ui| {
            if machine.cpus() <= 1 {
                ui.label(RichText::new("CPU 0").strong().size(16.0));
            } else {
                let before = self.cpu;
                egui::ComboBox::from_id_salt("cpu").selected_text(format!("CPU {}", self.cpu)).show_ui(
                    ui,
                    |ui| {
                        for cpu in 0..machine.cpus() {
                            ui.selectable_value(&mut self.cpu, cpu, format!("CPU {cpu}"));
                        }
                    },
                );
                if self.cpu != before {
                    self.changes.clear();
                }
            }
        });
        let Some(registers) = machine.registers(self.cpu) else {
            ui.label(RichText::new("This vCPU has left no sample yet.").color(theme::colours().weak));
            ui.ctx().request_repaint_after(REFRESH);
            return;
        };
        let now = ui.input(|input| input.time);
        egui::ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
            for (group, title, is_open) in GROUPS {
                CollapsingHeader::new(RichText::new(title).strong()).default_open(is_open).show(ui, |ui| {
                    let mut rows = rows(&registers, group);
                    if group == Group::Execution
                        && let Some(name) = debug::name(machine, registers.linear_rip())
                    {
                        rows[0].meaning = format!("{}  {name}", rows[0].meaning);
                    }
                    self.group(ui, group, &rows, now);
                    if group == Group::Execution {
                        flags(ui, registers.rflags);
                    }
                });
            }
            CollapsingHeader::new(RichText::new("Local APIC").strong()).show(ui, |ui| {
                match machine.session().and_then(|session| session.local_apic(self.cpu)) {
                    Some(apic) => self.group(ui, Group::LocalApic, &local_apic(&apic), now),
                    None => {
                        let text = "The host's kernel keeps it: start the machine with --interrupts glass to see it.";
                        ui.label(RichText::new(text).color(theme::colours().weak));
                    }
                }
            });
        });
        if is_running {
            ui.ctx().request_repaint_after(REFRESH);
        }
    }

    fn group(&mut self, ui: &mut Ui, group: Group, rows: &[Row], now: f64) {
        let columns = if group == Group::General { 2 } else { 1 };
        let longest = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let name_width = (longest as f32 + 1.2) * CHARACTER_WIDTH;
        ui.spacing_mut().item_spacing = vec2(0.0, 3.0);
        ui.spacing_mut().interact_size.y = 0.0;
        for line in rows.chunks(columns) {
            ui.horizontal_top(|ui| {
                for row in line {
                    let mark = self.changes.mark(group, row, now);
                    if mark > 0.0 {
                        ui.ctx().request_repaint_after(REFRESH);
                    }
                    let name = RichText::new(&row.name).monospace().color(theme::colours().weak);
                    ui.allocate_ui_with_layout(
                        vec2(name_width, 15.0),
                        Layout::left_to_right(Align::Min),
                        |ui| {
                            ui.set_min_width(name_width);
                            ui.label(name);
                        },
                    );
                    value(ui, row, mark);
                    if columns > 1 {
                        ui.add_space(2.0 * CHARACTER_WIDTH);
                    }
                }
            });
        }
    }
}

fn value(ui: &mut Ui, row: &Row, mark: f32) {
    let colour = theme::colours().text.lerp_to_gamma(theme::colours().warn, mark);
    let mut text = RichText::new(&row.value).monospace().color(colour);
    if mark > 0.0 {
        text = text.background_color(theme::colours().warn.gamma_multiply(0.22 * mark));
    }
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        ui.add(egui::Label::new(text).wrap_mode(egui::TextWrapMode::Extend));
        if !row.meaning.is_empty() {
            let meaning = RichText::new(&row.meaning).color(theme::colours().weak).size(11.5);
            ui.add(egui::Label::new(meaning).wrap());
        }
    });
}

/// The flags one by one: those that are set stand out.
fn flags(ui: &mut Ui, rflags: u64) {
    ui.add_space(2.0);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(5.0, 3.0);
        for Explained { bit, name, is_set, meaning } in bits::explain(rflags, &bits::RFLAGS) {
            let colour =
                if is_set { theme::colours().strong } else { theme::colours().weak.gamma_multiply(0.55) };
            let mut text = RichText::new(name).monospace().size(11.5).color(colour);
            if is_set {
                text = text.background_color(theme::colours().accent.gamma_multiply(0.6)).strong();
            }
            ui.label(text).on_hover_text(format!("bit {bit}: {meaning}"));
        }
        let level = rflags >> 12 & 3;
        ui.label(
            RichText::new(format!("IOPL\u{a0}{level}")).monospace().size(11.5).color(theme::colours().weak),
        );
    });
}
