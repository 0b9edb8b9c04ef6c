//! The registers page: everything one vCPU is, what it means, and where it shall stop.

mod code;
mod compare;
mod memory;
mod steps;
mod tables;

use std::sync::Arc;

use cpu::Registers;
use egui::{Frame, RichText, Ui};
use engine::Session;
use engine::inspect::{descriptor, summary, task};
use engine::machine::Timer;

use super::action::Action;
use super::chrome;
use super::machines::{Entry, Id, Standing};
use super::registers_panel::RegistersPanel;
use super::stop_draft::StopDraft;
use super::stops;
use super::theme;
use super::timers_page::Neighbour;
use crate::control::{Command, SymbolsAction};
use crate::running::Running;
use compare::CompareTab;
use memory::MemoryTab;
use steps::Steps;

/// What is beside the registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tab {
    #[default]
    Code,
    Stops,
    Bits,
    Gdt,
    Idt,
    Tss,
    Walk,
    Memory,
    Compare,
}

const TABS: [(Tab, &str); 9] = [
    (Tab::Code, "Code and stack"),
    (Tab::Stops, "Stops"),
    (Tab::Bits, "Bits"),
    (Tab::Gdt, "GDT"),
    (Tab::Idt, "IDT"),
    (Tab::Tss, "TSS"),
    (Tab::Walk, "Page walk"),
    (Tab::Memory, "Memory"),
    (Tab::Compare, "Compare"),
];

/// What the page remembers.
#[derive(Default)]
pub struct InspectorPage {
    of: Option<Id>,
    panel: RegistersPanel,
    tab: Tab,
    steps: Steps,
    draft: StopDraft,
    walk: String,
    memory: MemoryTab,
    set: String,
    compare: CompareTab,
}

/// What surrounds the machine that is looked at.
pub struct Surroundings<'a> {
    /// All machines that run, for comparing.
    pub machines: &'a [Neighbour],
    /// Its timers.
    pub timers: &'a [Timer],
    /// Something that was asked of a machine is still to be done.
    pub busy: bool,
}

impl InspectorPage {
    /// Shows the page.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &dyn Running,
        around: &Surroundings<'_>,
        asked: &mut Vec<Action>,
    ) {
        if self.of != Some(entry.id) {
            let (mut compare, tab) = (std::mem::take(&mut self.compare), self.tab);
            compare.restart();
            let memory = MemoryTab::new();
            *self = InspectorPage { of: Some(entry.id), compare, tab, memory, ..Self::default() };
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
        let frame = Frame::new().fill(colours.background).inner_margin(14);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            self.beside(ui, entry, machine, around, asked);
        });
    }

    /// What is beside the registers.
    fn beside(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &dyn Running,
        around: &Surroundings<'_>,
        asked: &mut Vec<Action>,
    ) {
        let cpu = self.panel.cpu();
        self.steps.show(ui, entry, machine, cpu, around.busy, asked);
        let Some(registers) = machine.registers(cpu) else {
            let text = "This virtual CPU has not run yet: its firmware or system has not started it.";
            return chrome::empty(ui, "No registers", text, None, asked);
        };
        self.top(ui, entry, machine, &registers, cpu, asked);
        ui.add_space(4.0);
        ui.horizontal_wrapped(|ui| {
            for (tab, text) in TABS {
                ui.selectable_value(&mut self.tab, tab, text);
            }
        });
        ui.separator();
        let memory = machine.memory();
        match self.tab {
            Tab::Code => code::show(ui, entry.id, machine, &registers, asked),
            Tab::Stops => stops::show(ui, entry.id, machine, around.timers, &mut self.draft, asked),
            Tab::Bits => tables::all_bits(ui, &registers),
            Tab::Gdt => tables::table(ui, &descriptor::global_table(&registers, memory), false),
            Tab::Idt => tables::table(ui, &descriptor::interrupt_table(&registers, memory), true),
            Tab::Tss => tables::fields(ui, &task::fields(&registers, memory)),
            Tab::Walk => tables::walk(ui, &mut self.walk, &registers, machine),
            Tab::Memory => self.memory.show(ui, entry, (cpu, &registers), machine, asked),
            Tab::Compare => self.compare.show(ui, around.machines, cpu, &registers),
        }
    }

    /// What the whole means, and changing it.
    fn top(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &dyn Running,
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
            let can = paused && !changes.is_empty();
            Action::Do(entry.id, Command::Set { changes, cpu }).button_if(ui, can, asked);
            let keep = ui.button("Keep this moment");
            if keep.on_hover_text("Keep these registers, to compare them later").clicked() {
                let label = format!("{} CPU {cpu} at {:x}", entry.name, registers.rip);
                self.compare.keep(label, registers.clone());
            }
            if let Some(session) = machine.session() {
                symbols(ui, entry.id, session, asked);
            }
            if !paused {
                ui.label(RichText::new("live, 30 times a second; pause to edit").color(colours.weak).small());
            }
        });
    }
}

/// Names of addresses.
fn symbols(ui: &mut Ui, id: Id, session: &Session, asked: &mut Vec<Action>) {
    Action::BrowseSymbols(id).button(ui, asked);
    let count = session.symbols().len();
    if count > 0 {
        let forget = Command::Symbols { action: SymbolsAction::Clear };
        Action::Do(id, forget).widget(ui, egui::Button::new("Forget names"), true, asked);
        let text = format!("{count} names");
        ui.label(RichText::new(text).small().color(theme::colours().weak));
    }
}
