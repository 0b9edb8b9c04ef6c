//! The host as two bars: who has how much of its processors and of its memory.

use egui::{Align2, Color32, FontId, Rect, RichText, Sense, Ui, pos2, vec2};
use engine::resources::{Report, Resource, amount};
use engine::scheduler::Scheduler;

use super::super::action::Action;
use super::super::samples::History;
use super::super::setting;
use super::super::theme;
use super::{Holder, WIDE};

/// A part of a bar: how much of it, whose, its colour.
type Part<'a> = (f64, &'a str, Color32);

/// Shows the card.
pub fn show(
    ui: &mut Ui,
    holders: &[Holder],
    histories: &[History],
    report: Option<&Report>,
    asked: &mut Vec<Action>,
) {
    let colours = theme::colours();
    let scheduler = Scheduler::global();
    let whole = scheduler.workers() as f64;
    let used: Vec<f64> = histories.iter().map(|history| history.rate(|point| point.ran)).collect();
    let total: f64 = used.iter().sum();
    let part = |index: usize, size: f64| (size, holders[index].name.as_str(), colours.of(index));
    let parts: Vec<Part> = used.iter().enumerate().map(|(index, used)| part(index, used / whole)).collect();
    let free = format!("{:.0} % of a CPU idle", (whole - total).max(0.0) * 100.0);
    let count = if ui.available_width() < WIDE { 1 } else { 2 };
    ui.columns(count, |columns| {
        bar(&mut columns[0], &format!("Processors: {whole}"), &parts, &free);
        if let Some(report) = report {
            memory(&mut columns[count - 1], holders, report);
        }
    });
    ui.horizontal_wrapped(|ui| {
        // Of the host, but spoken to through a machine, as `ctl` does.
        let speaker = holders[0].id;
        let quantum = (scheduler.quantum().as_secs_f64() * 1e3).to_string();
        setting::field(ui, speaker, ("quantum", "quantum, ms"), &quantum, asked);
        if let Some(report) = report {
            let percent = report.overcommit_percent.to_string();
            setting::field(ui, speaker, ("overcommit", "overcommit, %"), &percent, asked);
        }
    });
}

/// What may be granted of the host's memory, and to whom it is.
fn memory(ui: &mut Ui, holders: &[Holder], report: &Report) {
    let colours = theme::colours();
    let Some(line) = report.lines.iter().find(|line| line.resource == Resource::Memory) else { return };
    let whole = line.limit.unwrap_or(line.granted + line.held).max(1) as f64;
    let mut parts: Vec<Part> = Vec::new();
    for machine in &report.machines {
        let place = holders.iter().position(|holder| holder.machine.id() == Some(machine.id));
        let colour = place.map_or(colours.weak, |place| colours.of(place));
        parts.push((machine.grant.memory.charged_bytes as f64 / whole, &machine.name, colour));
    }
    parts.push((line.held as f64 / whole, "on its way", colours.warn));
    let free = match (line.free, line.over) {
        (_, over) if over > 0 => format!("{} over the limit", amount::bytes(over)),
        (Some(free), _) => format!("{} free to grant", amount::bytes(free)),
        (None, _) => "the host's memory is not known".to_owned(),
    };
    let name = line.limit.map_or("Memory".to_owned(), |limit| format!("Memory: {}", amount::bytes(limit)));
    bar(ui, &name, &parts, &free);
}

fn bar(ui: &mut Ui, name: &str, parts: &[Part], free: &str) {
    let colours = theme::colours();
    ui.label(RichText::new(name).small().color(colours.weak));
    let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), 24.0), Sense::hover());
    let painter = ui.painter();
    painter.rect_filled(area, 3.0, colours.field);
    let font = FontId::proportional(12.5);
    let mut left = area.left();
    for (part, name, colour) in parts {
        let width = (*part as f32 * area.width()).clamp(0.0, area.right() - left);
        let bar = Rect::from_min_size(pos2(left, area.top()), vec2(width, area.height()));
        painter.rect_filled(bar, 3.0, *colour);
        if width > 60.0 {
            let clip = painter.with_clip_rect(bar.shrink(4.0));
            let at = bar.left_center() + vec2(8.0, 0.0);
            clip.text(at, Align2::LEFT_CENTER, name, font.clone(), colours.background);
        }
        left += width;
    }
    let room = Rect::from_min_max(pos2(left, area.top()), area.max);
    let at = area.right_center() - vec2(8.0, 0.0);
    painter.with_clip_rect(room).text(at, Align2::RIGHT_CENTER, free, font, colours.weak);
}
