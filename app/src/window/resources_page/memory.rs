//! A machine's memory: what it is granted, what its guest sees and uses, and what the host really spends on it.

use egui::{Color32, Rect, RichText, Sense, Stroke, Ui, pos2, vec2};
use engine::profile::Size;
use engine::resources::{Goods, MachineReport, amount};

use super::super::action::Action;
use super::super::chrome;
use super::super::samples::{History, MemoryPoint};
use super::super::setting;
use super::super::theme;
use super::parcel::{self, Offers};
use super::{Column, graph};

/// Colours of what the guest sees, what it uses, and what the host spends.
fn colours_of_lines() -> [Color32; 3] {
    let colours = theme::colours();
    [colours.weak, colours.of(0), colours.warn]
}

/// Shows the card's contents.
pub fn show(
    ui: &mut Ui,
    column: &Column<'_>,
    report: &MachineReport,
    offers: &mut Offers,
    asked: &mut Vec<Action>,
) {
    let colours = theme::colours();
    let (grant, spending) = (&report.grant.memory, &report.memory);
    let own = column.own;
    bar(ui, report);
    lines(ui, column.history, grant.ceiling_bytes);
    let told = |bytes: Option<u64>| bytes.map_or("not told".to_owned(), amount::bytes);
    let [sees, uses, spends] = colours_of_lines();
    let granted = format!("{} of {}", amount::bytes(grant.charged_bytes), amount::bytes(grant.ceiling_bytes));
    chrome::figure(ui, "granted", &granted);
    keyed(ui, sees, "the guest sees", &told(spending.seen_bytes));
    keyed(ui, uses, "the guest uses", &told(spending.used_bytes));
    keyed(ui, spends, "the host spends", &amount::bytes(spending.spent_bytes));
    ui.horizontal_wrapped(|ui| {
        let written = |bytes: u64| Size::of_bytes(bytes).to_string();
        if spending.unable.is_none() {
            setting::field(ui, own.id, ("memory", "memory now"), &written(grant.now_bytes), asked);
        }
        setting::field(ui, own.id, ("floor", "floor"), &written(grant.floor_bytes), asked);
    });
    match &spending.unable {
        Some(reason) => {
            let text = format!("Its memory stays where it is: {reason}.");
            ui.label(RichText::new(text).small().color(colours.weak));
        }
        None => {
            let goods = |mib: u64| Goods::Memory(mib << 20);
            parcel::give(ui, column, &mut offers.memory, " MiB", goods, asked);
        }
    }
}

/// The ceiling as a bar: used, free, in the balloon; a line each for what the host spends and for the floor.
fn bar(ui: &mut Ui, report: &MachineReport) {
    let colours = theme::colours();
    let [_, uses, spends] = colours_of_lines();
    let (grant, spending) = (&report.grant.memory, &report.memory);
    let (area, response) = ui.allocate_exact_size(vec2(ui.available_width(), 20.0), Sense::hover());
    let painter = ui.painter();
    painter.rect_filled(area, 3.0, colours.field);
    let whole = grant.ceiling_bytes.max(1) as f32;
    let x = |bytes: u64| area.left() + area.width() * (bytes as f32 / whole).min(1.0);
    let part = |from: u64, to: u64| Rect::from_x_y_ranges(x(from)..=x(to), area.y_range());
    painter.rect_filled(part(0, grant.charged_bytes), 3.0, uses.gamma_multiply(0.35));
    painter.rect_filled(part(0, spending.used_bytes.unwrap_or(0)), 3.0, uses);
    painter.vline(x(grant.floor_bytes), area.y_range(), Stroke::new(1.5, colours.text));
    let spent = x(spending.spent_bytes);
    painter.rect_filled(
        Rect::from_min_max(pos2(area.left(), area.bottom() - 3.0), pos2(spent, area.bottom())),
        0.0,
        spends,
    );
    let text = format!(
        "Strong: used by the guest. Pale: granted. Dark: taken by the balloon ({}). Line below: what the host spends. \
         Upright line: the floor.",
        amount::bytes(spending.balloon_bytes)
    );
    response.on_hover_text(text);
}

/// The last minute of the three numbers.
fn lines(ui: &mut Ui, history: &History, ceiling_bytes: u64) {
    let line = |of: fn(&MemoryPoint) -> f64| history.memory.iter().map(of).collect::<Vec<f64>>();
    let lines = [line(|point| point.sees), line(|point| point.uses), line(|point| point.spends)];
    let [sees, uses, spends] = colours_of_lines();
    let drawn: [(&[f64], Color32); 3] = [(&lines[0], sees), (&lines[1], uses), (&lines[2], spends)];
    graph::show(ui, &drawn, ceiling_bytes as f64, None, &amount::bytes(ceiling_bytes));
}

/// A figure with the colour of its line.
fn keyed(ui: &mut Ui, colour: Color32, name: &str, value: &str) {
    chrome::line(ui, |ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        ui.label(RichText::new("■").small().color(colour));
        chrome::figure(ui, name, value);
    });
}
