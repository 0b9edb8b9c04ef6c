//! The exits page: the hosted monitor as a picture, with what passes between its parts.

use egui::text::{LayoutJob, TextWrapping};
use egui::{Align2, FontId, Frame, Rect, RichText, Sense, Stroke, Ui, pos2, vec2};
use engine::inspect::summary;

use super::action::Action;
use super::chrome;
use super::exit_view::{PASSAGES, Part, Passage, per_second};
use super::last_passages as last;
use super::machines::{Entry, Id};
use super::samples::History;
use super::theme;
use crate::running::Running;

/// Height of the picture.
const PICTURE: f32 = 396.0;

/// What the page remembers.
#[derive(Default)]
pub struct ExitsPage {
    of: Option<Id>,
    chosen: Option<Passage>,
}

impl ExitsPage {
    /// Shows the page.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &dyn Running,
        history: &History,
        asked: &mut Vec<Action>,
    ) {
        if self.of != Some(entry.id) {
            *self = ExitsPage { of: Some(entry.id), chosen: Some(Passage::Ports) };
        }
        ui.ctx().request_repaint_after(super::samples::PERIOD);
        let frame = Frame::new().fill(theme::colours().background).inner_margin(14);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            egui::ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 10.0;
                chrome::card(ui, "", |ui| self.picture(ui, machine, history));
                let narrow = ui.available_width() < 900.0;
                ui.columns(if narrow { 1 } else { 2 }, |columns| {
                    chrome::card(&mut columns[0], "What was last said", |ui| {
                        self.last(ui, entry, machine, asked);
                    });
                    let other = columns.len() - 1;
                    chrome::card(&mut columns[other], "Devices, accesses per second", |ui| {
                        devices(ui, history)
                    });
                    if !history.latest.kernel.is_empty() {
                        let title = "In the host's kernel, by KVM's own statistics";
                        chrome::card(&mut columns[other], title, |ui| kernel(ui, history));
                    }
                });
            });
        });
    }

    fn picture(&mut self, ui: &mut Ui, machine: &dyn Running, history: &History) {
        let colours = theme::colours();
        let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), PICTURE), Sense::hover());
        let kvm = !machine.backend_note().to_lowercase().starts_with("soft");
        let width = area.width();
        let left = Rect::from_min_size(area.min, vec2(width * 0.46, 86.0));
        let right_x = area.left() + width * 0.64;
        let guest = left;
        let native = Rect::from_min_size(pos2(area.left(), area.top() + 174.0), vec2(width * 0.46, 86.0));
        let user = Rect::from_min_size(pos2(right_x, area.top()), vec2(area.right() - right_x, 150.0));
        let driver = Rect::from_min_size(pos2(right_x, native.top()), vec2(area.right() - right_x, 86.0));
        let host = Rect::from_min_max(pos2(area.left(), area.bottom() - 52.0), area.max);

        let meaning =
            machine.registers(0).map_or_else(|| "not running yet".to_owned(), |r| summary::sentence(&r));
        let ran = history.rate(|point| point.ran) * 100.0;
        let speed = history.rate(|point| point.instructions as f64);
        let pace = if speed > 0.0 { format!("{} instructions/s", per_second(speed)) } else { String::new() };
        self.part(
            ui,
            Part::Guest,
            guest,
            "Guest",
            &[&meaning, &format!("{ran:.1} % of a host CPU   {pace}")],
        );
        let (name, note) = match kvm {
            true => ("VMM-n: KVM", "runs guest code on the host's CPU; traps what is sensitive"),
            false => (
                "VMM-n: software CPU",
                "runs innocuous instructions itself; takes sensitive ones to handlers",
            ),
        };
        self.part(ui, Part::Native, native, name, &[note, &machine.backend_note()]);
        let accesses = history.rate(|point| (point.port + point.reads + point.writes) as f64);
        let busiest: Vec<String> = history
            .devices()
            .into_iter()
            .filter(|(_, rate)| *rate >= 0.05)
            .take(4)
            .map(|(name, rate)| format!("{name}  {}/s", per_second(rate)))
            .collect();
        let mut lines: Vec<&str> = vec!["memory, devices, scheduler: this process"];
        lines.extend(busiest.iter().map(String::as_str));
        self.part(ui, Part::User, user, "VMM-u: devices", &lines);
        let (name, note) = match kvm {
            true => ("VMM-d: /dev/kvm", "the host's kernel module: the way from VMM-u to VMM-n"),
            false => ("VMM-d: not needed", "VMM-n is linked into VMM-u: no driver, no rights"),
        };
        self.part(ui, Part::Driver, driver, name, &[note]);
        let workers = engine::scheduler::Scheduler::global().workers();
        let system = format!("{workers} workers on host CPUs; the quantum timer takes control back");
        self.part(ui, Part::Host, host, "Host", &[&system]);

        // Down out of the guest, and up into it.
        let gap = (guest.bottom(), native.top());
        for (n, passage) in
            [Passage::Ports, Passage::Reads, Passage::Writes, Passage::Halts].into_iter().enumerate()
        {
            let x = guest.left() + guest.width() * (0.10 + 0.20 * n as f32);
            self.arrow(ui, passage, (x, gap.0), (x, gap.1), history);
        }
        let x = guest.left() + guest.width() * 0.90;
        self.arrow(ui, Passage::Interrupts, (x, gap.1), (x, gap.0), history);
        // Between the scheduler and the vCPU.
        let gap = (native.bottom(), host.top());
        for (n, passage) in [Passage::Slices, Passage::Expiries, Passage::Kicks].into_iter().enumerate() {
            let x = native.left() + native.width() * (0.14 + 0.34 * n as f32);
            let (from, to) = if passage == Passage::Slices { (gap.1, gap.0) } else { (gap.0, gap.1) };
            self.arrow(ui, passage, (x, from), (x, to), history);
        }
        // To the devices, and back as interrupt requests.
        let painter = ui.painter();
        let middle = (native.right() + driver.left()) / 2.0;
        let stroke = Stroke::new(1.5, colours.accent);
        let (from, to) =
            (pos2(native.right() + 4.0, native.top() + 30.0), pos2(user.left() - 4.0, user.bottom() - 40.0));
        painter.line_segment([from, pos2(middle, from.y)], stroke);
        painter.line_segment([pos2(middle, from.y), pos2(middle, to.y)], stroke);
        arrow_to(painter, pos2(middle, to.y), to, stroke);
        let label = format!("{}/s", per_second(accesses));
        painter.text(
            pos2(middle - 8.0, (from.y + to.y) / 2.0 - 8.0),
            Align2::RIGHT_CENTER,
            label,
            FontId::monospace(13.0),
            colours.text,
        );
        painter.text(
            pos2(middle - 8.0, (from.y + to.y) / 2.0 + 8.0),
            Align2::RIGHT_CENTER,
            "accesses",
            FontId::proportional(11.5),
            colours.weak,
        );
        painter.line_segment(
            [native.right_center() + vec2(4.0, 20.0), driver.left_center() + vec2(-4.0, 20.0)],
            Stroke::new(1.0, colours.line),
        );
    }

    fn part(&self, ui: &Ui, part: Part, rect: Rect, title: &str, lines: &[&str]) {
        let colours = theme::colours();
        let lit = self.chosen.is_some_and(|passage| passage.ends().0 == part || passage.ends().1 == part);
        let stroke =
            Stroke::new(if lit { 1.5 } else { 1.0 }, if lit { colours.accent } else { colours.line });
        ui.painter().rect(rect, 6.0, colours.card, stroke, egui::StrokeKind::Inside);
        let painter = ui.painter().with_clip_rect(rect.shrink(6.0));
        painter.text(
            rect.min + vec2(12.0, 9.0),
            Align2::LEFT_TOP,
            title,
            FontId::proportional(15.0),
            colours.text,
        );
        for (n, line) in lines.iter().enumerate() {
            let (font, width) = (FontId::proportional(12.5), rect.width() - 24.0);
            let mut job = LayoutJob::simple((*line).to_owned(), font, colours.weak, width);
            if n > 0 {
                job.wrap = TextWrapping::truncate_at_width(width);
            }
            let galley = painter.layout_job(job);
            let first = if n == 0 {
                0.0
            } else {
                (lines_high(&painter, lines[0], rect.width() - 24.0) - 15.0).max(0.0)
            };
            painter.galley(rect.min + vec2(12.0, 31.0 + 17.0 * n as f32 + first), galley, colours.weak);
        }
    }

    fn arrow(&mut self, ui: &Ui, passage: Passage, from: (f32, f32), to: (f32, f32), history: &History) {
        let colours = theme::colours();
        let rate = passage.rate(history);
        let (from, to) = (pos2(from.0, from.1), pos2(to.0, to.1));
        let hit = Rect::from_two_pos(from, to).expand2(vec2(42.0, -2.0));
        let response = ui.interact(hit, ui.id().with(("passage", passage)), Sense::click());
        let label = format!("{}: {} per second", passage.text(), per_second(rate));
        response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Button, true, label.clone()));
        if response.clicked() {
            self.chosen = Some(passage);
        }
        let chosen = self.chosen == Some(passage);
        let colour = match (chosen, rate >= 0.05) {
            (true, _) => colours.accent,
            (false, true) => colours.text,
            (false, false) => colours.line,
        };
        // A hundred times as many is twice as thick.
        let thickness = 1.0 + (rate.max(1.0).log10() * 0.7) as f32;
        let painter = ui.painter();
        if response.hovered() {
            painter.rect_filled(hit, 4.0, colours.button.gamma_multiply(0.5));
        }
        arrow_to(painter, from, to, Stroke::new(thickness, colour));
        let middle = from.lerp(to, 0.5);
        let number =
            painter.layout_no_wrap(format!("{}/s", per_second(rate)), FontId::monospace(13.0), colours.text);
        let words = painter.layout(passage.text().to_owned(), FontId::proportional(11.5), colours.weak, 78.0);
        let text = passage.time(history);
        let time = text.map(|text| painter.layout_no_wrap(text, FontId::proportional(11.5), colours.text));
        let time_size = time.as_ref().map_or(egui::Vec2::ZERO, |time| time.size());
        let wide = number.size().x.max(words.size().x).max(time_size.x) + 8.0;
        let high = number.size().y + words.size().y + time_size.y;
        let behind = Rect::from_center_size(middle, vec2(wide, high));
        painter.rect_filled(behind, 2.0, colours.panel);
        if let Some(time) = time {
            let at = pos2(middle.x - time_size.x / 2.0, behind.bottom() - time_size.y);
            painter.galley(at, time, colours.text);
        }
        painter.galley(pos2(middle.x - number.size().x / 2.0, behind.top()), number.clone(), colours.text);
        painter.galley(
            pos2(middle.x - words.size().x / 2.0, behind.top() + number.size().y),
            words,
            colours.weak,
        );
        response.on_hover_text(format!(
            "{}: {}; {} so far{}",
            passage.text(),
            passage.meaning(),
            passage.total(history),
            passage.time_meaning()
        ));
    }

    fn last(&self, ui: &mut Ui, entry: &Entry, machine: &dyn Running, asked: &mut Vec<Action>) {
        let colours = theme::colours();
        let passage = self.chosen.unwrap_or(Passage::Ports);
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(passage.text()).strong());
            ui.label(RichText::new(passage.meaning()).color(colours.weak).small());
        });
        let shown = last::of(passage, machine);
        if shown.is_empty() {
            ui.label(RichText::new("None of late.").color(colours.weak));
        }
        ui.spacing_mut().item_spacing.y = 2.0;
        for (what, words) in shown {
            chrome::line(ui, |ui| {
                ui.label(RichText::new(format!("{what:<26}")).monospace().color(colours.weak));
                ui.add(egui::Label::new(words).truncate());
            });
        }
        ui.add_space(6.0);
        let trace = machine.trace();
        if trace.is_on() {
            ui.horizontal(|ui| {
                let button = egui::Button::new("Open the trace");
                Action::Show(super::page::Page::Trace).widget(ui, button, true, asked);
            });
        } else {
            ui.horizontal(|ui| {
                Action::Trace(entry.id, true).button(ui, asked);
                ui.label(RichText::new("to keep a million of them").color(colours.weak).small());
            });
        }
    }
}

/// A line with a small head.
fn arrow_to(painter: &egui::Painter, from: egui::Pos2, to: egui::Pos2, stroke: Stroke) {
    painter.line_segment([from, to], stroke);
    let along = (to - from).normalized();
    let across = along.rot90();
    let size = 5.0 + stroke.width;
    let tip = vec![
        to,
        to - along * size * 1.5 + across * size * 0.7,
        to - along * size * 1.5 - across * size * 0.7,
    ];
    painter.add(egui::Shape::convex_polygon(tip, stroke.color, Stroke::NONE));
}

/// Height of a wrapped line.
fn lines_high(painter: &egui::Painter, text: &str, width: f32) -> f32 {
    painter.layout(text.to_owned(), FontId::proportional(12.5), theme::colours().weak, width).size().y
}

/// What never comes out of the kernel: only KVM can count it.
fn kernel(ui: &mut Ui, history: &History) {
    let seconds = (history.latest.wall_seconds - history.earlier.wall_seconds).max(1e-3);
    ui.spacing_mut().item_spacing.y = 1.0;
    for now in history.latest.kernel.iter().filter(|now| now.count > 0) {
        let before = history.earlier.kernel.iter().find(|before| before.name == now.name);
        let counted = now.count.saturating_sub(before.map_or(now.count, |before| before.count));
        let text = format!("{}/s   {}", per_second(counted as f64 / seconds), now.count);
        chrome::figure(ui, &now.name.replace('_', " "), &text);
    }
}

fn devices(ui: &mut Ui, history: &History) {
    let colours = theme::colours();
    let rates = history.devices();
    let most = rates.first().map_or(1.0, |(_, rate)| rate.max(1.0));
    ui.spacing_mut().item_spacing.y = 2.0;
    for (name, rate) in rates.iter().take(12) {
        chrome::line(ui, |ui| {
            let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), 17.0), Sense::hover());
            let painter = ui.painter();
            let bar = Rect::from_min_size(
                area.min + vec2(204.0, 4.0),
                vec2((area.width() - 204.0).max(0.0) * (rate / most) as f32, 9.0),
            );
            painter.rect_filled(bar, 2.0, colours.of(0).gamma_multiply(0.8));
            let colour = if *rate >= 0.05 { colours.text } else { colours.weak };
            painter.text(area.left_center(), Align2::LEFT_CENTER, name, FontId::proportional(13.0), colour);
            painter.text(
                area.left_center() + vec2(194.0, 0.0),
                Align2::RIGHT_CENTER,
                per_second(*rate),
                FontId::monospace(12.5),
                colour,
            );
        });
    }
    let unclaimed = history.points.back().map_or(0, |point| point.unclaimed);
    ui.add_space(4.0);
    let text = format!(
        "{unclaimed} accesses so far that nobody answered; {} kinds of passage are counted.",
        PASSAGES.len()
    );
    ui.label(RichText::new(text).small().color(colours.weak));
}
