//! The resource deck: every machine that runs is a column; what it has, what it uses, and how to give it more or less.

use std::sync::Arc;

use egui::{Align2, DragValue, FontId, Frame, Rect, RichText, Sense, Stroke, Ui, pos2, vec2};
use engine::scheduler::{DEFAULT_SHARES, MOST_SHARES, Scheduler};

use super::action::Action;
use super::chrome;
use super::exit_view::per_second;
use super::machines::{Id, Standing};
use super::samples::{History, Sampler};
use super::theme;
use super::timer_view::duration;
use crate::running::Running;

/// Least width of a column.
const COLUMN: f32 = 300.0;

/// A machine on the deck.
pub struct Holder {
    /// Which.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// It.
    pub machine: Arc<dyn Running>,
}

/// Shows the page.
pub fn show(ui: &mut Ui, holders: &[Holder], sampler: &Sampler, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    ui.ctx().request_repaint_after(super::samples::PERIOD);
    let frame = Frame::new().fill(colours.background).inner_margin(14);
    egui::CentralPanel::default().frame(frame).show(ui, |ui| {
        if holders.is_empty() {
            let text = "Start two machines and their processors, memory and I/O stand here side by side, to be moved \
                        from one to the other while both run.";
            let action = Some(Action::ShowLibrary);
            return chrome::empty(ui, "No machine runs", text, action, asked);
        }
        egui::ScrollArea::both().auto_shrink([false; 2]).show(ui, |ui| {
            let histories: Vec<History> = holders.iter().map(|holder| sampler.history(holder.id)).collect();
            ui.spacing_mut().item_spacing = vec2(12.0, 10.0);
            chrome::card(ui, "Host", |ui| host(ui, holders, &histories));
            let across = ui.available_width();
            let width = ((across + 12.0) / holders.len() as f32 - 12.0).clamp(COLUMN, 900.0);
            ui.horizontal_top(|ui| {
                for (index, (holder, history)) in holders.iter().zip(&histories).enumerate() {
                    ui.push_id(holder.id, |ui| {
                        ui.allocate_ui_with_layout(vec2(width, 0.0), egui::Layout::top_down(egui::Align::Min), |ui| {
                            ui.set_width(width);
                            column(ui, index, holder, holders, history, asked);
                        });
                    });
                }
            });
        });
    });
}

/// The host as one bar: who has how much of its processors.
fn host(ui: &mut Ui, holders: &[Holder], histories: &[History]) {
    let colours = theme::colours();
    let scheduler = Scheduler::global();
    let whole = scheduler.workers() as f64;
    let used: Vec<f64> = histories.iter().map(|history| history.rate(|point| point.ran)).collect();
    let total: f64 = used.iter().sum();
    let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), 26.0), Sense::hover());
    let painter = ui.painter();
    painter.rect_filled(area, 3.0, colours.field);
    let mut left = area.left();
    for (index, (holder, part)) in holders.iter().zip(&used).enumerate() {
        let width = (part / whole).clamp(0.0, 1.0) as f32 * area.width();
        let bar = Rect::from_min_size(pos2(left, area.top()), vec2(width, area.height()));
        painter.rect_filled(bar, 3.0, colours.of(index));
        if width > 60.0 {
            let clip = painter.with_clip_rect(bar.shrink(4.0));
            clip.text(
                bar.left_center() + vec2(8.0, 0.0),
                Align2::LEFT_CENTER,
                &holder.name,
                FontId::proportional(12.5),
                colours.background,
            );
        }
        left += width;
    }
    painter.text(
        area.right_center() - vec2(8.0, 0.0),
        Align2::RIGHT_CENTER,
        format!("{:.0} % free", (whole - total).max(0.0) * 100.0),
        FontId::proportional(12.5),
        colours.weak,
    );
    let memory: u64 = holders.iter().map(|holder| holder.machine.profile().memory.bytes()).sum();
    let text = format!(
        "{} host CPUs · {:.1} % of a CPU used by guests · quantum {} · {} MiB of memory granted to {}",
        scheduler.workers(),
        total * 100.0,
        duration(scheduler.quantum().as_nanos() as f64),
        memory >> 20,
        if holders.len() == 1 { "1 machine".to_owned() } else { format!("{} machines", holders.len()) },
    );
    ui.label(RichText::new(text).color(colours.weak));
}

fn column(
    ui: &mut Ui,
    index: usize,
    holder: &Holder,
    all: &[Holder],
    history: &History,
    asked: &mut Vec<Action>,
) {
    let colours = theme::colours();
    let colour = colours.of(index);
    chrome::card(ui, "", |ui| {
        ui.horizontal(|ui| {
            ui.label(RichText::new("■").color(colour));
            ui.label(RichText::new(&holder.name).size(16.0).strong());
            ui.label(
                RichText::new(holder.standing.text()).color(super::library_page::colour(holder.standing)),
            );
        });
        processor(ui, holder, all, colour, history, asked);
    });
    chrome::card(ui, "Memory", |ui| memory(ui, holder));
    chrome::card(ui, "I/O", |ui| {
        let rate = |counter: fn(&super::samples::Point) -> u64| history.rate(|point| counter(point) as f64);
        figure(ui, "port accesses/s", &per_second(rate(|point| point.port)));
        figure(ui, "device memory/s", &per_second(rate(|point| point.reads + point.writes)));
        figure(ui, "interrupts/s", &per_second(rate(|point| point.interrupts)));
    });
}

fn processor(
    ui: &mut Ui,
    holder: &Holder,
    all: &[Holder],
    colour: egui::Color32,
    history: &History,
    asked: &mut Vec<Action>,
) {
    let colours = theme::colours();
    let allotment = holder.machine.allotment();
    let ran = history.rate(|point| point.ran) * 100.0;
    chrome::heading(ui, "Processor");
    let most = 100.0 * holder.machine.cpus() as f64;
    graph(ui, &history.rates(|point| point.ran * 100.0), most, allotment.cap_percent.map(f64::from), colour);
    figure(ui, "used, % of a host CPU", &format!("{ran:.1}"));
    ui.horizontal(|ui| {
        label(ui, "shares");
        let mut shares = allotment.shares;
        let value = DragValue::new(&mut shares).range(1..=MOST_SHARES).speed(8.0);
        if ui
            .add(value)
            .on_hover_text("Part of the host's processors while machines compete: drag, or click and type")
            .changed()
        {
            asked.push(Action::SetShares(holder.id, shares));
        }
        for (text, shares) in
            [("½", allotment.shares / 2), ("1:1", DEFAULT_SHARES), ("×2", allotment.shares * 2)]
        {
            let action = Action::SetShares(holder.id, shares.clamp(1, MOST_SHARES));
            let button = egui::Button::new(text);
            action.widget(ui, button, true, asked);
        }
    });
    ui.horizontal(|ui| {
        label(ui, "cap, %");
        for (text, cap) in
            [("none", None), ("75", Some(75)), ("50", Some(50)), ("25", Some(25)), ("10", Some(10))]
        {
            let button = egui::Button::selectable(allotment.cap_percent == cap, text);
            Action::SetCap(holder.id, cap).widget(ui, button, true, asked);
        }
    });
    ui.horizontal(|ui| {
        label(ui, "reserved, %");
        let mut reserved = allotment.reservation_percent;
        let value = DragValue::new(&mut reserved).range(0..=100).speed(0.5);
        if ui.add(value).on_hover_text("Given before all others, whatever their shares").changed() {
            asked.push(Action::SetReservation(holder.id, reserved));
        }
    });
    for other in all.iter().filter(|other| other.id != holder.id) {
        let theirs = other.machine.allotment().shares;
        let moved = (theirs / 4).max(1).min(theirs.saturating_sub(1));
        let text = format!("take {moved} shares from {}", other.name);
        let button = egui::Button::new(RichText::new(text).color(colours.text));
        let action = Action::MoveShares { from: other.id, to: holder.id, shares: moved };
        action.widget(ui, button, moved > 0, asked);
    }
}

fn memory(ui: &mut Ui, holder: &Holder) {
    let bytes = holder.machine.profile().memory.bytes();
    figure(ui, "ceiling, MiB", &(bytes >> 20).to_string());
}

fn label(ui: &mut Ui, text: &str) {
    let (rect, _) = ui.allocate_exact_size(vec2(92.0, 22.0), Sense::hover());
    ui.painter().text(
        rect.left_center(),
        Align2::LEFT_CENTER,
        text,
        FontId::proportional(13.0),
        theme::colours().weak,
    );
}

/// A figure with its name and unit.
pub fn figure(ui: &mut Ui, name: &str, value: &str) {
    chrome::line(ui, |ui| {
        ui.label(RichText::new(name).color(theme::colours().weak));
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            ui.add(egui::Label::new(RichText::new(value).monospace()).truncate());
        });
    });
}

/// A minute of a rate, newest at the right; a cap is a line across.
pub fn graph(ui: &mut Ui, values: &[f64], most: f64, line: Option<f64>, colour: egui::Color32) {
    let colours = theme::colours();
    let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), 64.0), Sense::hover());
    let painter = ui.painter();
    painter.rect_filled(area, 3.0, colours.field);
    let y = |value: f64| area.bottom() - 2.0 - (value / most).clamp(0.0, 1.0) as f32 * (area.height() - 4.0);
    for part in [0.25, 0.5, 0.75] {
        painter.hline(area.x_range(), y(most * part), Stroke::new(1.0, colours.grid));
    }
    let step = area.width() / 597.0;
    let first = area.right() - step * values.len().saturating_sub(1) as f32;
    let points: Vec<egui::Pos2> =
        values.iter().enumerate().map(|(n, value)| pos2(first + step * n as f32, y(*value))).collect();
    if points.len() > 1 {
        painter.line(points, Stroke::new(1.5, colour));
    }
    if let Some(line) = line {
        painter.hline(area.x_range(), y(line), Stroke::new(1.0, colours.warn));
    }
    painter.text(
        area.left_top() + vec2(6.0, 3.0),
        Align2::LEFT_TOP,
        format!("{most:.0} %"),
        FontId::proportional(10.5),
        colours.weak,
    );
    painter.text(
        area.right_top() + vec2(-6.0, 3.0),
        Align2::RIGHT_TOP,
        "last minute",
        FontId::proportional(10.5),
        colours.weak,
    );
}
