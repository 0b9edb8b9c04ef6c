//! Memory on the registers page: read, searched and written by linear or physical address.

use cpu::Registers;
use egui::{Align2, FontId, RichText, Ui, vec2};

use super::super::action::Action;
use super::super::inspector::{self, LINE};
use super::super::machines::{Entry, Standing};
use super::super::row_list::RowList;
use super::super::theme;
use crate::control::{Command, number};
use crate::running::Running;
use crate::search;

/// What the tab remembers.
#[derive(Default)]
pub struct MemoryTab {
    address: String,
    physical: bool,
    find: String,
    found: Option<String>,
    write: String,
    list: RowList,
}

impl MemoryTab {
    /// At the beginning of its list.
    pub fn new() -> MemoryTab {
        let mut tab = MemoryTab::default();
        tab.list.follows = false;
        tab
    }

    /// Shows the tab.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        (cpu, registers): (usize, &Registers),
        machine: &dyn Running,
        asked: &mut Vec<Action>,
    ) {
        let colours = theme::colours();
        let paused = entry.standing() == Standing::Paused;
        let start = number(self.address.trim()).unwrap_or_else(|_| registers.linear_rip() & !0xF);
        ui.horizontal_wrapped(|ui| {
            ui.add(theme::text_field(&mut self.address).hint_text("address, 0x7c00").desired_width(150.0));
            ui.selectable_value(&mut self.physical, false, "linear");
            ui.selectable_value(&mut self.physical, true, "physical");
            ui.separator();
            let field = theme::text_field(&mut self.find).hint_text("55 aa or \"text\"").desired_width(120.0);
            ui.add(field);
            let wanted = search::wanted(&self.find);
            if ui.add_enabled(wanted.is_some(), egui::Button::new("Find next")).clicked()
                && let Some(wanted) = wanted
            {
                let from = start.wrapping_add(1);
                let found =
                    search::find(registers, machine.memory(), from, self.physical, &wanted, search::SPAN);
                self.found = Some(match found {
                    Some(at) => {
                        self.address = format!("{at:#x}");
                        format!("found at {at:#x}")
                    }
                    None => "not in the next 256 MiB".to_owned(),
                });
            }
            if let Some(found) = &self.found {
                ui.label(RichText::new(found).color(colours.weak));
            }
        });
        ui.horizontal_wrapped(|ui| {
            let field = theme::text_field(&mut self.write).hint_text("90 90 f4").desired_width(150.0);
            ui.add_enabled(paused, field).on_disabled_hover_text("Pause the machine to write its memory");
            let bytes = self.write.trim().to_owned();
            let can = paused && !bytes.is_empty();
            let command = Command::Write { address: start, bytes, linear: (!self.physical).then_some(cpu) };
            Action::Do(entry.id, command).button_if(ui, can, asked);
            let text =
                if paused { "writes these bytes at the address" } else { "pause the machine to write" };
            ui.label(RichText::new(text).small().color(colours.weak));
        });
        let physical = self.physical;
        let lines = 4096;
        let base = start & !(LINE as u64 - 1);
        self.list.show(ui, lines, 17.0, |ui, index, rect| {
            let address = base.wrapping_add((index * LINE) as u64);
            let bytes = inspector::line(registers, machine.memory(), address, physical);
            let hex: Vec<String> =
                bytes.iter().map(|byte| byte.map_or("--".to_owned(), |byte| format!("{byte:02x}"))).collect();
            let shown = |byte: &Option<u8>| match byte {
                Some(byte @ 0x20..=0x7E) => char::from(*byte),
                Some(_) => '.',
                None => ' ',
            };
            let text: String = bytes.iter().map(shown).collect();
            let mono = FontId::monospace(12.5);
            let painter = ui.painter();
            let at = rect.left_center();
            painter.text(at, Align2::LEFT_CENTER, format!("{address:016x}"), mono.clone(), colours.weak);
            let colour = if bytes[0].is_some() { colours.text } else { colours.line };
            let halves = format!("{}  {}", hex[..8].join(" "), hex[8..].join(" "));
            painter.text(at + vec2(138.0, 0.0), Align2::LEFT_CENTER, halves, mono.clone(), colour);
            painter.text(at + vec2(138.0 + 372.0, 0.0), Align2::LEFT_CENTER, text, mono, colours.of(0));
        });
    }
}
