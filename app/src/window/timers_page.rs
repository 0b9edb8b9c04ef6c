//! The timers page: the scope, the table of what became of ticks, how late they came, and time itself as a control.

use std::sync::Arc;

use egui::{Align2, FontId, Frame, Pos2, Rect, RichText, Sense, Stroke, Ui, pos2, vec2};
use engine::debugger::{Condition, StopCondition};
use engine::machine::Timer;
use engine::profile::LostTicks;
use engine::scheduler::{Scheduler, SliceEnd};
use engine::stats::{LineCount, Stats};

use super::action::Action;
use super::chrome;
use super::machines::{Entry, Id};
use super::stops;
use super::theme;
use super::timer_view::{RATES, Scope, duration, ending, frequency, rate};
use crate::control::BreakAction;
use crate::running::Running;

/// Height of a lane of the scope.
const LANE: f32 = 30.0;
/// Width of the lanes' names.
const NAMES: f32 = 132.0;

/// A machine whose slices are drawn.
pub type Neighbour = (Id, String, Arc<dyn Running>);

/// What the page remembers.
#[derive(Default)]
pub struct TimersPage {
    scope: Scope,
    of: Option<Id>,
    /// The timer whose histogram is shown.
    chosen: usize,
}

impl TimersPage {
    /// Shows the page of `entry`; the host's lanes have the slices of all `machines`.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &dyn Running,
        stats: &Stats,
        machines: &[Neighbour],
        asked: &mut Vec<Action>,
    ) {
        if self.of != Some(entry.id) {
            let span = self.scope.span;
            *self = TimersPage { of: Some(entry.id), ..TimersPage::default() };
            self.scope.span = span;
        }
        let (edge, slice) = self.scope.cursors();
        self.scope.take(machine.edges_since(edge), Scheduler::global().slices_since(slice));
        ui.ctx().request_repaint_after(std::time::Duration::from_millis(50));
        let frame = Frame::new().fill(theme::colours().background).inner_margin(14);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            egui::ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 10.0;
                chrome::card(ui, "", |ui| {
                    self.tools(ui);
                    self.scope(ui, machine, machines);
                });
                stops::strip(ui, entry, machine, asked);
                chrome::card(ui, "Guest timers", |ui| {
                    egui::ScrollArea::horizontal().id_salt("timers").auto_shrink([false, true]).show(
                        ui,
                        |ui| {
                            let timers = (&stats.timers.guest[..], stats.guest_seconds * 1e9);
                            table(ui, entry.id, machine, timers, asked);
                        },
                    );
                });
                ui.columns(2, |columns| {
                    chrome::card(&mut columns[0], "", |ui| self.histogram(ui, machine));
                    chrome::card(&mut columns[1], "Time", |ui| time(ui, entry.id, machine, asked));
                    chrome::card(&mut columns[1], "Interrupt lines", |ui| lines(ui, &stats.interrupts));
                });
            });
        });
    }

    fn tools(&mut self, ui: &mut Ui) {
        ui.horizontal(|ui| {
            ui.label(RichText::new("Scope").strong());
            let held = self.scope.held_ns.is_some();
            if ui
                .button(if held { "Run" } else { "Hold" })
                .on_hover_text("Hold the picture; the machine goes on")
                .clicked()
            {
                self.scope.held_ns = (!held).then(|| Scheduler::global().now_ns());
            }
            if ui.button("−").on_hover_text("Show more time").clicked() {
                self.scope.zoom(1);
            }
            if ui.button("+").on_hover_text("Show less time").clicked() {
                self.scope.zoom(-1);
            }
            ui.label(
                RichText::new(format!("{} across", duration(self.scope.span_ns() as f64)))
                    .color(theme::colours().weak),
            );
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                for (text, colour) in [
                    ("late", theme::colours().bad),
                    ("cap", theme::colours().of(4)),
                    ("quantum over", theme::colours().warn),
                    ("halted", theme::colours().good),
                    ("edge", theme::colours().of(0)),
                ] {
                    ui.label(RichText::new(text).small().color(theme::colours().weak));
                    ui.label(RichText::new("■").small().color(colour));
                }
            });
        });
    }

    fn scope(&mut self, ui: &mut Ui, machine: &dyn Running, machines: &[Neighbour]) {
        let colours = theme::colours();
        let names: Vec<(u8, String)> = machine
            .lateness_histograms()
            .into_iter()
            .enumerate()
            .filter(|(_, (_, histogram))| !histogram.is_empty())
            .map(|(alarm, (name, _))| (alarm as u8, shown(&name)))
            .collect();
        let hosts: Vec<(usize, String, u64)> = machines
            .iter()
            .enumerate()
            .flat_map(|(index, (_, name, machine))| {
                let cpus = machine.entity_ids();
                let several = cpus.len() > 1;
                cpus.into_iter().enumerate().map(move |(cpu, entity)| {
                    let name = if several { format!("{name} CPU {cpu}") } else { name.clone() };
                    (index, name, entity)
                })
            })
            .collect();
        let lanes = names.len() + hosts.len();
        let height = LANE * lanes.max(1) as f32 + 22.0;
        let (area, response) =
            ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::click_and_drag());
        response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Image, true, "Timer scope"));
        let plot = Rect::from_min_max(area.min + vec2(NAMES, 0.0), area.max - vec2(0.0, 20.0));
        let painter = ui.painter().with_clip_rect(area);
        painter.rect_filled(plot, 2.0, colours.field);
        if response.hovered() {
            let wheel = ui.input(|input| input.smooth_scroll_delta().y + 10.0 * (input.zoom_delta() - 1.0));
            if wheel.abs() > 4.0 && ui.input(|input| input.modifiers.ctrl || input.modifiers.command) {
                self.scope.zoom(if wheel > 0.0 { -1 } else { 1 });
            }
        }
        let span = self.scope.span_ns();
        let now = Scheduler::global().now_ns();
        if response.dragged() {
            let moved = f64::from(response.drag_delta().x / plot.width()) * span as f64;
            let end = self.scope.held_ns.unwrap_or(now);
            self.scope.held_ns = Some(end.saturating_add_signed(-(moved as i64)));
        }
        let end = self.scope.held_ns.unwrap_or(now);
        let begin = end.saturating_sub(span);
        let x = |ns: u64| plot.left() + (ns as f64 - begin as f64) as f32 / span as f32 * plot.width();
        for tenth in 0..=10 {
            let at = plot.left() + plot.width() * tenth as f32 / 10.0;
            painter.vline(at, plot.y_range(), Stroke::new(1.0, colours.grid));
            let back = span as f64 * f64::from(10 - tenth) / 10.0;
            let text = if tenth == 10 { "now".to_owned() } else { format!("−{}", duration(back)) };
            let align = match tenth {
                0 => Align2::LEFT_TOP,
                10 => Align2::RIGHT_TOP,
                _ => Align2::CENTER_TOP,
            };
            if tenth % 2 == 0 {
                painter.text(
                    pos2(at, plot.bottom() + 4.0),
                    align,
                    text,
                    FontId::proportional(11.0),
                    colours.weak,
                );
            }
        }
        let marks = painter.with_clip_rect(plot);
        let mut told: Option<String> = None;
        let pointer = response.hover_pos();
        for (lane, (alarm, name)) in names.iter().enumerate() {
            let (top, bottom) = lane_edges(plot, lane);
            title(&painter, area, plot, lane, name, colours.text);
            for edge in self.scope.edges(*alarm, begin, end) {
                let at = x(edge.host_ns);
                let due = x(edge.host_ns.saturating_sub(edge.late_ns));
                if at - due > 1.0 {
                    marks.rect_filled(
                        Rect::from_min_max(pos2(due, bottom - 9.0), pos2(at, bottom - 5.0)),
                        0.0,
                        colours.bad,
                    );
                }
                marks.vline(at, top + 6.0..=bottom - 4.0, Stroke::new(1.5, colours.of(0)));
                if is_near(pointer, at, top, bottom) {
                    told = Some(format!(
                        "{name}: due at guest time {:.6} s, {} late",
                        edge.guest_ns as f64 / 1e9,
                        duration(edge.late_ns as f64)
                    ));
                }
            }
        }
        for (lane, (index, name, entity)) in (names.len()..).zip(&hosts) {
            let (top, bottom) = lane_edges(plot, lane);
            title(&painter, area, plot, lane, name, colours.of(*index));
            for slice in self.scope.slices(*entity, begin, end) {
                let (from, to) = (x(slice.begun_ns), x(slice.begun_ns + slice.lasted_ns));
                let bar = Rect::from_min_max(pos2(from, top + 8.0), pos2(to.max(from + 1.0), bottom - 6.0));
                marks.rect_filled(bar, 0.0, colours.of(*index).gamma_multiply(0.75));
                let mark = match slice.end {
                    SliceEnd::Parked => colours.good,
                    SliceEnd::Quantum => colours.warn,
                    SliceEnd::Cap => colours.of(4),
                    SliceEnd::Yielded | SliceEnd::Kicked => colours.weak,
                };
                marks.vline(to, top + 5.0..=bottom - 3.0, Stroke::new(1.0, mark));
                if pointer.is_some_and(|pointer| bar.expand(2.0).contains(pointer)) {
                    let (lasted, granted) =
                        (duration(slice.lasted_ns as f64), duration(slice.granted_ns as f64));
                    told = Some(format!("{name}: ran {lasted} of {granted} granted; {}", ending(slice.end)));
                }
            }
        }
        if lanes == 0 {
            let text = "No timer was due yet, and no machine had a slice.";
            painter.text(
                plot.center(),
                Align2::CENTER_CENTER,
                text,
                FontId::proportional(13.0),
                colours.weak,
            );
        }
        if let Some(told) = told {
            response.on_hover_text_at_pointer(told);
        }
    }

    fn histogram(&mut self, ui: &mut Ui, machine: &dyn Running) {
        let colours = theme::colours();
        let all: Vec<_> = machine
            .lateness_histograms()
            .into_iter()
            .filter(|(_, histogram)| !histogram.is_empty())
            .collect();
        ui.horizontal(|ui| {
            chrome::heading(ui, "Lateness of");
            for (index, (name, _)) in all.iter().enumerate() {
                ui.selectable_value(&mut self.chosen, index, shown(name));
            }
        });
        let (area, response) = ui.allocate_exact_size(vec2(ui.available_width(), 112.0), Sense::hover());
        let painter = ui.painter();
        painter.rect_filled(area, 2.0, colours.field);
        let Some((_, histogram)) = all.get(self.chosen).or(all.first()) else {
            painter.text(
                area.center(),
                Align2::CENTER_CENTER,
                "No deadline was kept yet.",
                FontId::proportional(13.0),
                colours.weak,
            );
            return;
        };
        let plot = Rect::from_min_max(area.min + vec2(6.0, 16.0), area.max - vec2(6.0, 16.0));
        let most = histogram.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1) as f32;
        // Decades from 100 ns to 1 s.
        let x = |ns: f64| {
            plot.left() + ((ns.max(100.0).log10() - 2.0) / 7.0).clamp(0.0, 1.0) as f32 * plot.width()
        };
        for (decade, text) in
            ["100 ns", "1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"].into_iter().enumerate()
        {
            let at = x(10_f64.powi(decade as i32 + 2));
            painter.vline(at, plot.y_range(), Stroke::new(1.0, colours.grid));
            let align = [Align2::LEFT_TOP, Align2::CENTER_TOP, Align2::RIGHT_TOP]
                [usize::from(decade > 0) + usize::from(decade == 7)];
            painter.text(
                pos2(at, plot.bottom() + 2.0),
                align,
                text,
                FontId::proportional(11.0),
                colours.weak,
            );
        }
        for (top, count) in histogram {
            let right = x(*top as f64);
            let height = (*count as f32 / most).max(0.02) * plot.height();
            let bar = Rect::from_min_max(
                pos2(right - plot.width() / 30.0, plot.bottom() - height),
                pos2(right, plot.bottom()),
            );
            painter.rect_filled(bar.shrink2(vec2(0.5, 0.0)), 0.0, colours.of(0));
            if response.hover_pos().is_some_and(|pointer| (bar.left()..=bar.right()).contains(&pointer.x)) {
                let text = format!("{count} at most {} late", duration(*top as f64));
                painter.text(
                    plot.right_top() - vec2(0.0, 14.0),
                    Align2::RIGHT_TOP,
                    text,
                    FontId::proportional(11.5),
                    colours.text,
                );
            }
        }
        let total: u64 = histogram.iter().map(|(_, count)| count).sum();
        painter.text(
            plot.left_top() - vec2(0.0, 14.0),
            Align2::LEFT_TOP,
            format!("{total} deadlines"),
            FontId::proportional(11.5),
            colours.weak,
        );
    }
}

/// What became of the ticks of each timer; a button stops the machine at its next tick.
fn table(
    ui: &mut Ui,
    id: Id,
    machine: &dyn Running,
    (timers, now_ns): (&[Timer], f64),
    asked: &mut Vec<Action>,
) {
    let colours = theme::colours();
    let conditions = machine.session().map(|session| session.conditions());
    let heads = [
        "timer",
        "mode",
        "period",
        "frequency",
        "raised",
        "delivered",
        "merged",
        "owed",
        "next in",
        "late p50",
        "p99",
        "max",
        "",
    ];
    if timers.is_empty() {
        ui.label(RichText::new("The host's kernel keeps this machine's timers: start it with --interrupts glass to see them.").color(colours.weak));
        return;
    }
    let grid = egui::Grid::new("timers").striped(true).num_columns(heads.len());
    grid.spacing(vec2(18.0, 3.0)).min_row_height(18.0).show(ui, |ui| {
        for head in heads {
            ui.label(RichText::new(head).small().color(colours.weak));
        }
        ui.end_row();
        for timer in timers {
            let on = timer.mode != "off";
            let colour = if on { colours.text } else { colours.weak };
            let cell = |ui: &mut Ui, text: String| {
                ui.label(RichText::new(text).monospace().color(colour));
            };
            ui.label(RichText::new(&timer.name).color(colour).strong());
            ui.label(RichText::new(&timer.mode).color(colour));
            cell(ui, timer.period_ns.map_or("–".to_owned(), duration));
            cell(ui, timer.period_ns.map_or("–".to_owned(), frequency));
            cell(ui, timer.raised.to_string());
            cell(ui, timer.delivered.to_string());
            let merged = RichText::new(timer.merged.to_string()).monospace();
            let fate = format!(
                "{} replayed, {} withdrawn by the guest{}",
                timer.replayed,
                timer.withdrawn,
                timer.acknowledged.map_or(String::new(), |taken| format!(", {taken} taken by CPUs"))
            );
            ui.label(merged.color(if timer.merged > 0 { colours.warn } else { colour })).on_hover_text(&fate);
            ui.label(RichText::new(timer.owed.to_string()).monospace().color(colour)).on_hover_text(fate);
            cell(ui, timer.next_ns.map_or("–".to_owned(), |at| duration((at as f64 - now_ns).max(0.0))));
            let late = &timer.lateness;
            for ns in [late.p50_ns, late.p99_ns, late.max_ns] {
                cell(ui, if late.count == 0 { "–".to_owned() } else { duration(ns as f64) });
            }
            stop_at_tick(ui, id, conditions.as_deref(), timer, asked);
            ui.end_row();
        }
    });
    let text = "Every tick raised is delivered, merged with another because the guest was late, still owed (lost ticks are \
                replayed), or withdrawn by the guest itself, which stopped the timer.";
    ui.label(RichText::new(text).small().color(colours.weak));
}

/// Stops the machine at the next tick of this timer, or no more. `conditions`: those that are set; `None`: it cannot be
/// stopped.
fn stop_at_tick(
    ui: &mut Ui,
    id: Id,
    conditions: Option<&[StopCondition]>,
    timer: &Timer,
    asked: &mut Vec<Action>,
) {
    let Some(conditions) = conditions else {
        ui.label("");
        return;
    };
    let condition = Condition::Timer { name: timer.name.clone() };
    let set = conditions.iter().find(|set| set.condition == condition);
    let action = match set {
        Some(set) => stops::action(id, BreakAction::Remove { id: Some(set.id) }),
        None => stops::add(id, &condition.to_string()),
    };
    let button = egui::Button::new("Stop at tick").small().selected(set.is_some());
    action.widget(ui, button, true, asked);
}

/// What became of the interrupts of each line.
fn lines(ui: &mut Ui, lines: &[LineCount]) {
    let colours = theme::colours();
    if lines.is_empty() {
        ui.label(RichText::new("No line has risen yet.").color(colours.weak));
        return;
    }
    egui::Grid::new("lines").striped(true).spacing(vec2(20.0, 2.0)).min_row_height(16.0).show(ui, |ui| {
        for head in ["line", "", "raised", "delivered", "open"] {
            ui.label(RichText::new(head).small().color(colours.weak));
        }
        ui.end_row();
        for count in lines {
            ui.label(RichText::new(count.line.to_string()).monospace());
            ui.label(RichText::new(line_name(count.line)).color(colours.weak));
            ui.label(RichText::new(count.raised.to_string()).monospace());
            ui.label(RichText::new(count.delivered.to_string()).monospace());
            // Masked, or not taken before it fell again.
            let open = count.raised.saturating_sub(count.delivered);
            let colour = if open > 0 { colours.warn } else { colours.weak };
            ui.label(RichText::new(open.to_string()).monospace().color(colour));
            ui.end_row();
        }
    });
}

/// Who drives a line.
pub fn line_name(line: u32) -> &'static str {
    use hardware::layout::irq;
    match line {
        irq::TIMER => "8254",
        irq::KEYBOARD => "keyboard",
        irq::COM2 => "COM2",
        irq::COM1 => "COM1",
        irq::FLOPPY => "floppy",
        irq::RTC => "RTC",
        irq::SCI => "ACPI",
        irq::MOUSE => "mouse",
        irq::IDE_PRIMARY => "IDE 0",
        irq::IDE_SECONDARY => "IDE 1",
        _ => "PCI",
    }
}

/// How fast guest time runs.
fn time(ui: &mut Ui, id: Id, machine: &dyn Running, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    let now = machine.time_rate();
    ui.horizontal_wrapped(|ui| {
        for choice in RATES {
            let chosen = (now - choice).abs() < choice / 100.0;
            let button = egui::Button::selectable(chosen, rate(choice));
            Action::set(id, "time", choice).widget(ui, button, true, asked);
        }
    });
    ui.horizontal(|ui| {
        let now = machine.lost_ticks();
        ui.label(RichText::new("Lost ticks").color(colours.weak));
        for (policy, text, what) in [
            (LostTicks::Merge, "merge", "Ticks that come too late reach the guest as one"),
            (LostTicks::Replay, "replay", "Each tick that came too late is given to the guest, one by one"),
        ] {
            let button = egui::Button::selectable(now == policy, text);
            let action = Action::set(id, "ticks", text);
            action.widget(ui, button, true, asked).on_hover_text(what);
        }
    });
    let text = format!(
        "Guest time runs at {} the host's. Timers, the time-stamp counter and the clock all follow; Pause stops them.",
        rate(now)
    );
    ui.label(RichText::new(text).color(colours.weak));
    let quantum = Scheduler::global().quantum();
    let text =
        format!("Host quantum: {} for each slice while others wait.", duration(quantum.as_nanos() as f64));
    ui.label(RichText::new(text).color(colours.weak));
}

/// What a device with an alarm is called here.
fn shown(name: &str) -> String {
    match name {
        "interrupts" => "local APIC timers".to_owned(),
        "mc146818" => "RTC".to_owned(),
        "piix4-pm" => "ACPI PM timer".to_owned(),
        "hpet" => "HPET".to_owned(),
        name => name.to_owned(),
    }
}

fn lane_edges(plot: Rect, lane: usize) -> (f32, f32) {
    let top = plot.top() + LANE * lane as f32;
    (top, top + LANE)
}

fn title(painter: &egui::Painter, area: Rect, plot: Rect, lane: usize, name: &str, colour: egui::Color32) {
    let (top, bottom) = lane_edges(plot, lane);
    let at = pos2(area.left() + 2.0, (top + bottom) / 2.0);
    let clip =
        painter.with_clip_rect(Rect::from_min_max(pos2(area.left(), top), pos2(plot.left() - 6.0, bottom)));
    clip.text(at, Align2::LEFT_CENTER, name, FontId::proportional(12.5), colour);
    painter.hline(plot.x_range(), bottom, Stroke::new(1.0, theme::colours().grid));
}

fn is_near(pointer: Option<Pos2>, x: f32, top: f32, bottom: f32) -> bool {
    pointer.is_some_and(|pointer| (pointer.x - x).abs() < 3.0 && (top..=bottom).contains(&pointer.y))
}
