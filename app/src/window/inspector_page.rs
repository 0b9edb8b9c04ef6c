//! The registers page: everything one vCPU is, and what it means.

use std::sync::Arc;

use cpu::Registers;
use egui::{Align2, ComboBox, FontId, Frame, RichText, ScrollArea, Sense, Ui, vec2};
use engine::inspect::{self, code, descriptor, exception, summary, task};

use super::action::Action;
use super::chrome;
use super::inspector::{self, LINE};
use super::machines::{Entry, Id, Standing};
use super::registers_panel::RegistersPanel;
use super::row_list::RowList;
use super::theme;
use super::timers_page::Neighbour;
use crate::control::{Command, number};
use crate::running::Running;

/// Moments kept for comparing.
const MOMENTS: usize = 8;
/// Bytes a search looks through.
const SEARCHED: u64 = 256 << 20;

/// What is beside the registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tab {
    #[default]
    Code,
    Bits,
    Gdt,
    Idt,
    Tss,
    Walk,
    Memory,
    Compare,
}

const TABS: [(Tab, &str); 8] = [
    (Tab::Code, "Code and stack"),
    (Tab::Bits, "Bits"),
    (Tab::Gdt, "GDT"),
    (Tab::Idt, "IDT"),
    (Tab::Tss, "TSS"),
    (Tab::Walk, "Page walk"),
    (Tab::Memory, "Memory"),
    (Tab::Compare, "Compare"),
];

/// One of two states to compare.
#[derive(Clone, Debug, Default, PartialEq)]
enum Source {
    /// The vCPU that is looked at.
    #[default]
    Here,
    /// A vCPU of a machine.
    Of(Id, usize),
    /// A kept moment.
    Moment(usize),
}

/// What the page remembers.
#[derive(Default)]
pub struct InspectorPage {
    of: Option<Id>,
    panel: RegistersPanel,
    tab: Tab,
    walk: String,
    memory: String,
    physical: bool,
    find: String,
    found: Option<String>,
    write: String,
    set: String,
    list: RowList,
    moments: Vec<(String, Arc<Registers>)>,
    compared: (Source, Source),
    only_different: bool,
}

impl InspectorPage {
    /// Shows the page.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &dyn Running,
        machines: &[Neighbour],
        asked: &mut Vec<Action>,
    ) {
        if self.of != Some(entry.id) {
            let (moments, tab) = (std::mem::take(&mut self.moments), self.tab);
            *self =
                InspectorPage { of: Some(entry.id), moments, tab, only_different: true, ..Self::default() };
            self.list.follows = false;
        }
        let colours = theme::colours();
        let frame = Frame::new().fill(colours.panel).inner_margin(egui::Margin::symmetric(12, 8));
        let panel = egui::Panel::left("all-registers")
            .frame(frame)
            .exact_size(theme::REGISTERS_WIDTH + 8.0)
            .resizable(false);
        panel.show(ui, |ui| {
            self.panel.show(ui, machine, entry.standing() == Standing::Running);
        });
        let cpu = self.panel.cpu();
        let frame = Frame::new().fill(colours.background).inner_margin(14);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            let Some(registers) = machine.registers(cpu) else {
                let text = "This virtual CPU has not run yet: its firmware or system has not started it.";
                return chrome::empty(ui, "No registers", text, None, asked);
            };
            self.top(ui, entry, &registers, cpu, asked);
            ui.add_space(4.0);
            ui.horizontal_wrapped(|ui| {
                for (tab, text) in TABS {
                    ui.selectable_value(&mut self.tab, tab, text);
                }
            });
            ui.separator();
            let memory = machine.memory();
            match self.tab {
                Tab::Code => code_and_stack(ui, &registers, memory),
                Tab::Bits => all_bits(ui, &registers),
                Tab::Gdt => table(ui, &descriptor::global_table(&registers, memory), false),
                Tab::Idt => table(ui, &descriptor::interrupt_table(&registers, memory), true),
                Tab::Tss => fields(ui, &task::fields(&registers, memory)),
                Tab::Walk => self.walk(ui, &registers, machine),
                Tab::Memory => self.memory(ui, entry, &registers, machine, asked),
                Tab::Compare => self.compare(ui, machines, &registers),
            }
        });
    }

    /// What the whole means, and changing it.
    fn top(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        registers: &Arc<Registers>,
        cpu: usize,
        asked: &mut Vec<Action>,
    ) {
        let colours = theme::colours();
        let sentence = summary::sentence(registers);
        ui.add(egui::Label::new(RichText::new(sentence).size(15.0)).wrap());
        ui.horizontal_wrapped(|ui| {
            let paused = entry.standing() == Standing::Paused;
            let field = theme::text_field(&mut self.set).hint_text("rip=0x7c00 rax=1").desired_width(170.0);
            ui.add_enabled(paused, field).on_disabled_hover_text("Pause the machine to change its registers");
            let changes: Vec<String> = self.set.split_whitespace().map(str::to_owned).collect();
            let command = Command::Set { changes: changes.clone(), cpu };
            Action::Do(entry.id, command).button_if(ui, paused && !changes.is_empty(), asked);
            if ui
                .button("Keep this moment")
                .on_hover_text("Keep these registers, to compare them later")
                .clicked()
            {
                if self.moments.len() == MOMENTS {
                    self.moments.remove(0);
                }
                let label = format!("{} CPU {cpu} at {:x}", entry.name, registers.rip);
                self.moments.push((label, registers.clone()));
                self.compared.1 = Source::Moment(self.moments.len() - 1);
            }
            if !paused {
                ui.label(RichText::new("live, 30 times a second; pause to edit").color(colours.weak).small());
            }
        });
    }

    fn walk(&mut self, ui: &mut Ui, registers: &Registers, machine: &dyn Running) {
        let colours = theme::colours();
        ui.horizontal(|ui| {
            ui.label("Linear address");
            ui.add(theme::text_field(&mut self.walk).hint_text("RIP").desired_width(190.0));
            for (text, value) in [
                ("RIP", registers.linear_rip()),
                ("RSP", registers.general[4]),
                ("IDT", registers.idtr.base),
                ("GDT", registers.gdtr.base),
            ] {
                if ui.button(text).clicked() {
                    self.walk = format!("{value:#x}");
                }
            }
        });
        let address = match self.walk.trim() {
            "" => Ok(registers.linear_rip()),
            text => number(text),
        };
        let walk = match address {
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

    fn memory(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        registers: &Registers,
        machine: &dyn Running,
        asked: &mut Vec<Action>,
    ) {
        let colours = theme::colours();
        let paused = entry.standing() == Standing::Paused;
        let start = number(self.memory.trim()).unwrap_or_else(|_| registers.linear_rip() & !0xF);
        ui.horizontal_wrapped(|ui| {
            ui.add(theme::text_field(&mut self.memory).hint_text("address, 0x7c00").desired_width(150.0));
            ui.selectable_value(&mut self.physical, false, "linear");
            ui.selectable_value(&mut self.physical, true, "physical");
            ui.separator();
            let field = theme::text_field(&mut self.find).hint_text("55 aa or \"text\"").desired_width(120.0);
            ui.add(field);
            let wanted = inspector::wanted(&self.find);
            if ui.add_enabled(wanted.is_some(), egui::Button::new("Find next")).clicked()
                && let Some(wanted) = wanted
            {
                let from = start.wrapping_add(1);
                let found =
                    inspector::find(registers, machine.memory(), from, self.physical, &wanted, SEARCHED);
                self.found = Some(match found {
                    Some(at) => {
                        self.memory = format!("{at:#x}");
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
            let physical = match self.physical {
                true => Some(start),
                false => inspect::walk(registers, machine.memory(), start).physical(),
            };
            let bytes = self.write.trim().to_owned();
            let can = paused && !bytes.is_empty() && physical.is_some();
            let command = Command::Write { address: physical.unwrap_or(0), bytes };
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

    fn compare(&mut self, ui: &mut Ui, machines: &[Neighbour], here: &Arc<Registers>) {
        let colours = theme::colours();
        let mut choices = vec![(Source::Here, format!("this CPU ({})", self.panel.cpu()))];
        for (id, name, machine) in machines {
            choices.extend(
                (0..machine.cpus()).map(|cpu| (Source::Of(*id, cpu), format!("{name} CPU {cpu}, live"))),
            );
        }
        choices.extend(
            self.moments.iter().enumerate().map(|(n, (label, _))| (Source::Moment(n), label.clone())),
        );
        let name = |source: &Source| {
            choices
                .iter()
                .find(|(other, _)| other == source)
                .map_or("choose", |(_, name)| name.as_str())
                .to_owned()
        };
        ui.horizontal_wrapped(|ui| {
            for (salt, source) in [("first", &mut self.compared.0), ("second", &mut self.compared.1)] {
                ComboBox::from_id_salt(salt).selected_text(name(source)).width(210.0).show_ui(ui, |ui| {
                    for (choice, text) in &choices {
                        ui.selectable_value(source, choice.clone(), text);
                    }
                });
            }
            ui.checkbox(&mut self.only_different, "only what differs");
        });
        let state = |source: &Source| match source {
            Source::Here => Some(here.clone()),
            Source::Of(id, cpu) => machines.iter().find(|(other, ..)| other == id)?.2.registers(*cpu),
            Source::Moment(n) => self.moments.get(*n).map(|(_, registers)| registers.clone()),
        };
        let (Some(first), Some(second)) = (state(&self.compared.0), state(&self.compared.1)) else {
            ui.label(RichText::new("One of the two has left no registers.").color(colours.weak));
            return;
        };
        let pairs = inspector::compare(&first, &second, self.only_different);
        if pairs.is_empty() {
            let text = if self.compared.0 == self.compared.1 {
                "Choose a second state: another CPU, another machine, or a moment you kept."
            } else {
                "All registers are equal."
            };
            ui.label(RichText::new(text).color(colours.weak));
            return;
        }
        ScrollArea::both().auto_shrink([false; 2]).show(ui, |ui| {
            egui::Grid::new("compare").striped(true).spacing(vec2(20.0, 2.0)).min_row_height(16.0).show(
                ui,
                |ui| {
                    for pair in &pairs {
                        ui.label(RichText::new(pair.group).small().color(colours.weak));
                        ui.label(RichText::new(&pair.name).monospace().color(colours.weak));
                        let differs = pair.values.0 != pair.values.1;
                        let colour = if differs { colours.warn } else { colours.text };
                        ui.label(RichText::new(&pair.values.0).monospace().color(colour));
                        ui.label(RichText::new(&pair.values.1).monospace().color(colour));
                        ui.end_row();
                    }
                },
            );
        });
    }
}

fn code_and_stack(ui: &mut Ui, registers: &Registers, memory: &dyn inspect::PhysicalMemory) {
    let colours = theme::colours();
    let rows = ((ui.available_height() - 60.0) / 17.0).clamp(8.0, 60.0) as usize;
    let lines = code::disassemble(registers, memory, registers.rip, rows);
    let (width, stack) = inspector::stack(registers, memory, rows as u64);
    let mono = FontId::monospace(12.5);
    ui.horizontal_top(|ui| {
        let stack_width = 250.0;
        let code_width = (ui.available_width() - stack_width - 16.0).max(300.0);
        ui.vertical(|ui| {
            ui.set_width(code_width);
            ui.spacing_mut().item_spacing.y = 0.0;
            chrome::heading(ui, &format!("Code, {}-bit, from RIP", summary::code_bits(registers)));
            ui.add_space(4.0);
            if lines.is_empty() {
                ui.label(RichText::new("No memory is mapped at RIP.").color(colours.bad));
            }
            for line in &lines {
                let (rect, response) = ui.allocate_exact_size(vec2(code_width, 17.0), Sense::hover());
                response.widget_info(|| {
                    egui::WidgetInfo::labeled(egui::WidgetType::Label, true, line.text.clone())
                });
                let here = line.offset == registers.rip;
                let painter = ui.painter().with_clip_rect(rect);
                if here {
                    painter.rect_filled(rect, 2.0, colours.accent.gamma_multiply(0.3));
                }
                let text = |x, text, colour| chrome::cell(&painter, rect, x, text, &mono, colour);
                let bytes: String = line.bytes.iter().take(7).map(|byte| format!("{byte:02x}")).collect();
                let more = if line.bytes.len() > 7 { "…" } else { "" };
                text(6.0, format!("{:016x}", line.offset), if here { colours.text } else { colours.weak });
                text(138.0, format!("{bytes}{more}"), colours.weak);
                text(262.0, line.text.clone(), colours.text);
            }
        });
        ui.vertical(|ui| {
            ui.set_width(stack_width);
            ui.spacing_mut().item_spacing.y = 0.0;
            chrome::heading(ui, "Stack, top first");
            ui.add_space(4.0);
            for line in stack {
                let value = line
                    .value
                    .map_or("no memory".to_owned(), |value| format!("{value:0digits$x}", digits = 2 * width));
                chrome::line(ui, |ui| {
                    ui.label(RichText::new(format!("{:012x}", line.offset)).monospace().color(colours.weak));
                    ui.label(RichText::new(value).monospace());
                });
            }
        });
    });
}

fn all_bits(ui: &mut Ui, registers: &Registers) {
    let colours = theme::colours();
    ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
        for register in inspector::explained(registers) {
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

fn table(ui: &mut Ui, entries: &[descriptor::Entry], vectors: bool) {
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

fn fields(ui: &mut Ui, fields: &[task::Field]) {
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
