//! Two register states side by side: what differs between CPUs, machines, or moments that were kept.

use std::sync::Arc;

use cpu::Registers;
use egui::{ComboBox, RichText, ScrollArea, Ui, vec2};
use engine::inspect::compare::differences;

use super::super::machines::Id;
use super::super::theme;
use super::super::timers_page::Neighbour;

/// Moments kept for comparing.
const MOMENTS: usize = 8;

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

/// What the tab remembers.
#[derive(Default)]
pub struct CompareTab {
    moments: Vec<(String, Arc<Registers>)>,
    compared: (Source, Source),
}

impl CompareTab {
    /// Keeps these registers; they are compared with what is looked at.
    pub fn keep(&mut self, label: String, registers: Arc<Registers>) {
        if self.moments.len() == MOMENTS {
            self.moments.remove(0);
        }
        self.moments.push((label, registers));
        self.compared.1 = Source::Moment(self.moments.len() - 1);
    }

    /// Another machine is looked at: moments stay, the choice does not.
    pub fn restart(&mut self) {
        self.compared = (Source::Here, Source::Here);
    }

    /// Shows the tab.
    pub fn show(&mut self, ui: &mut Ui, machines: &[Neighbour], cpu: usize, here: &Arc<Registers>) {
        let colours = theme::colours();
        self.choose(ui, machines, cpu);
        let state = |source: &Source| match source {
            Source::Here => Some(here.clone()),
            Source::Of(id, cpu) => machines.iter().find(|(other, ..)| other == id)?.2.registers(*cpu),
            Source::Moment(n) => self.moments.get(*n).map(|(_, registers)| registers.clone()),
        };
        let (Some(first), Some(second)) = (state(&self.compared.0), state(&self.compared.1)) else {
            ui.label(RichText::new("One of the two has left no registers.").color(colours.weak));
            return;
        };
        let found = differences(&first, &second);
        if found.is_empty() {
            let text = if self.compared.0 == self.compared.1 {
                "Choose a second state: another CPU, another machine, or a moment you kept."
            } else {
                "All registers are equal."
            };
            ui.label(RichText::new(text).color(colours.weak));
            return;
        }
        let text = if found.len() == 1 {
            "1 value differs".to_owned()
        } else {
            format!("{} values differ", found.len())
        };
        ui.label(RichText::new(text).color(colours.weak));
        ScrollArea::both().auto_shrink([false; 2]).show(ui, |ui| {
            let grid = egui::Grid::new("compare").striped(true).spacing(vec2(24.0, 2.0)).min_row_height(16.0);
            grid.show(ui, |ui| {
                for difference in &found {
                    ui.label(RichText::new(&difference.name).monospace().color(colours.weak));
                    ui.label(RichText::new(&difference.first).monospace().color(colours.text));
                    ui.label(RichText::new(&difference.second).monospace().color(colours.warn));
                    ui.end_row();
                }
            });
        });
    }

    fn choose(&mut self, ui: &mut Ui, machines: &[Neighbour], cpu: usize) {
        let mut choices = vec![(Source::Here, format!("this CPU ({cpu})"))];
        for (id, name, machine) in machines {
            let live = |cpu: usize| (Source::Of(*id, cpu), format!("{name} CPU {cpu}, live"));
            choices.extend((0..machine.cpus()).map(live));
        }
        let kept = self.moments.iter().enumerate();
        choices.extend(kept.map(|(n, (label, _))| (Source::Moment(n), label.clone())));
        ui.horizontal_wrapped(|ui| {
            for (salt, source) in [("first", &mut self.compared.0), ("second", &mut self.compared.1)] {
                let chosen = choices.iter().find(|(other, _)| other == source);
                let name = chosen.map_or("choose", |(_, name)| name.as_str());
                ComboBox::from_id_salt(salt).selected_text(name).width(230.0).show_ui(ui, |ui| {
                    for (choice, text) in &choices {
                        ui.selectable_value(source, choice.clone(), text);
                    }
                });
            }
        });
    }
}
