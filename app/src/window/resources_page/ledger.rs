//! The host's ledger, which always adds up: granted, on its way and free are what may be granted.

use egui::{RichText, ScrollArea, Ui, vec2};
use engine::resources::{Report, Resource};

use super::super::theme;

/// Shows each resource as a line.
pub fn show(ui: &mut Ui, report: &Report) {
    let colours = theme::colours();
    ScrollArea::horizontal().id_salt("ledger").auto_shrink([false, true]).show(ui, |ui| {
        let grid = egui::Grid::new("ledger").striped(true).spacing(vec2(24.0, 3.0)).min_row_height(18.0);
        grid.show(ui, |ui| {
            let heads = [
                "",
                "the host has",
                "may be granted",
                "granted",
                "on its way",
                "free",
                "used now",
                "without a bound",
            ];
            for head in heads {
                ui.label(RichText::new(head).small().color(colours.weak));
            }
            ui.end_row();
            for (line, used) in report.lines.iter().zip(&report.used) {
                let known = |amount: Option<u64>| {
                    amount.map_or("no limit".to_owned(), |amount| line.resource.write(amount))
                };
                ui.label(line.resource.name());
                let figures =
                    [line.capacity, line.limit, Some(line.granted), Some(line.held), line.free, Some(*used)];
                for figure in figures {
                    ui.label(RichText::new(known(figure)).monospace());
                }
                let unbounded = match line.unbounded {
                    0 => "–".to_owned(),
                    // A reservation is a grant; without one, nothing is reserved.
                    _ if line.resource == Resource::Processor => "–".to_owned(),
                    1 => "1 machine".to_owned(),
                    several => format!("{several} machines"),
                };
                ui.label(RichText::new(unbounded).monospace());
                if line.over > 0 {
                    let text = format!("{} over the limit", line.resource.write(line.over));
                    ui.label(RichText::new(text).color(colours.bad));
                }
                ui.end_row();
            }
        });
        // Below it is room for the scroll bar.
        ui.add_space(8.0);
    });
    let text = format!(
        "Granted + on its way + free = may be granted = {} % of what the host has. Processor: what is reserved.",
        report.overcommit_percent
    );
    ui.label(RichText::new(text).small().color(colours.weak));
}
