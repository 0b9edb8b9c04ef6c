//! The trace page: the conversation between a guest and its devices.

use egui::{Align2, ComboBox, FontId, Frame, RichText, Sense, Ui, vec2};
use engine::trace::{Row, Trace, What, grouped};
use hardware::bus::WindowCount;

use super::action::Action;
use super::chrome;
use super::machines::Entry;
use super::row_list::RowList;
use super::stops;
use super::theme;
use super::trace_view::TraceView;
use crate::running::Running;

/// Height of a row, in points.
const ROW: f32 = 18.0;
/// Where the columns begin.
const COLUMNS: [(f32, &str); 5] =
    [(8.0, "guest time, s"), (118.0, "CPU"), (154.0, "access"), (370.0, "chip"), (486.0, "says")];
/// Narrower than this, the details are left out.
const WIDE: f32 = 1080.0;

/// What the page remembers.
#[derive(Default)]
pub struct TracePage {
    view: TraceView,
    list: RowList,
    /// The chosen row.
    chosen: Option<Row>,
}

impl TracePage {
    /// Another machine is looked at.
    pub fn restart(&mut self) {
        *self = TracePage::default();
    }

    /// Forgets what was shown.
    pub fn clear(&mut self) {
        self.view.clear();
        self.chosen = None;
    }

    /// The filter as options of `ctl trace`.
    pub fn options(&self) -> String {
        self.view.query.options()
    }

    /// The filter, for an export.
    pub fn filter(&self) -> engine::trace::Filter {
        self.view.query.filter()
    }

    /// Shows the page.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        entry: &Entry,
        machine: &dyn Running,
        windows: &[WindowCount],
        asked: &mut Vec<Action>,
    ) {
        let trace = machine.trace();
        self.view.follow(&trace);
        if self.view.is_busy() || trace.is_on() {
            ui.ctx().request_repaint_after(std::time::Duration::from_millis(50));
        }
        let bar = Frame::new().fill(theme::colours().background).inner_margin(egui::Margin::symmetric(14, 8));
        egui::Panel::top("trace-tools").frame(bar).show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                self.tools(ui, entry, &trace, asked);
                if machine.session().is_some() {
                    self.stop_at_the_next(ui, entry, windows, asked);
                }
            });
            stops::strip(ui, entry, machine, asked);
        });
        if trace.standing().events == 0 {
            let (title, text) = match trace.is_on() {
                true => ("Recording", "Nothing has happened yet: the guest has touched no device since."),
                false => (
                    "The trace is off",
                    "Record takes down every port and device-memory access, interrupt, timer edge and slice of this \
                     machine, and puts each into words. A running system hardly feels it; a loop of nothing but port \
                     accesses loses about a tenth of its speed. Off, it costs nothing.",
                ),
            };
            let action = (!trace.is_on()).then_some(Action::Trace(entry.id, true));
            egui::CentralPanel::default().show(ui, |ui| chrome::empty(ui, title, text, action, asked));
            return;
        }
        if ui.available_width() > WIDE {
            let frame = Frame::new().fill(theme::colours().panel).inner_margin(12);
            egui::Panel::right("trace-details").frame(frame).exact_size(280.0).resizable(false).show(
                ui,
                |ui| {
                    self.details(ui, &trace);
                },
            );
        }
        let frame = Frame::new().fill(theme::colours().background);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| self.rows(ui, &trace));
    }

    fn tools(&mut self, ui: &mut Ui, entry: &Entry, trace: &Trace, asked: &mut Vec<Action>) {
        let on = trace.is_on();
        let record = Action::Trace(entry.id, !on);
        match on {
            true => record.button(ui, asked),
            false => record.main_button(ui, true, asked),
        };
        Action::ClearTrace(entry.id).button_if(ui, trace.standing().events > 0, asked);
        Action::ExportTrace(entry.id).button_if(ui, trace.standing().kept > 0, asked);
        ui.separator();
        let query = &mut self.view.query;
        let chosen = if query.device.is_empty() { "All devices" } else { &query.device };
        ComboBox::from_id_salt("device").selected_text(chosen).width(130.0).show_ui(ui, |ui| {
            ui.selectable_value(&mut query.device, String::new(), "All devices");
            for name in trace.devices() {
                ui.selectable_value(&mut query.device, name.to_owned(), name);
            }
        });
        let wrong = query.is_range_wrong();
        let colour = if wrong { theme::colours().bad } else { theme::colours().text };
        let range = theme::text_field(&mut query.range).hint_text("0x3f8-0x3ff").desired_width(104.0);
        ui.add(range.text_color(colour)).on_hover_text("Only accesses to these ports or addresses");
        let text = theme::text_field(&mut query.text).hint_text("find words").desired_width(150.0);
        ui.add(text).on_hover_text("Only rows with these words");
        ui.checkbox(&mut query.accesses_only, "accesses only")
            .on_hover_text("Leaves out interrupts, timers and slices");
        ui.checkbox(&mut self.list.follows, "follow").on_hover_text("Stay at the newest row");
        let count = |number: usize| grouped(number.try_into().unwrap_or(u32::MAX));
        let mut text = format!("{} rows", count(self.view.len()));
        if self.view.len() != self.view.total() {
            text = format!("{text} of {}", count(self.view.total()));
        }
        if self.view.missed() > 0 {
            text = format!("{text}, {} events missed", self.view.missed());
        }
        ui.label(RichText::new(text).color(theme::colours().weak));
    }

    /// Stops the machine at the next access of the chosen device or range.
    fn stop_at_the_next(&self, ui: &mut Ui, entry: &Entry, windows: &[WindowCount], asked: &mut Vec<Action>) {
        let conditions = self.view.query.conditions(windows);
        let button = ui.add_enabled(!conditions.is_empty(), egui::Button::new("Stop at the next"));
        let clicked = button
            .on_hover_text("Pause the machine right after the next access of this device, or in this range")
            .on_disabled_hover_text(
                "Choose a device, or write a range, whose next access the machine shall stop at",
            )
            .clicked();
        if clicked {
            asked.extend(conditions.iter().map(|condition| stops::add(entry.id, condition)));
        }
    }

    fn rows(&mut self, ui: &mut Ui, trace: &Trace) {
        let colours = theme::colours();
        let (head, _) = ui.allocate_exact_size(vec2(ui.available_width(), ROW + 6.0), Sense::hover());
        ui.painter().rect_filled(head, 0.0, colours.panel);
        let small = FontId::proportional(12.0);
        for (x, title) in COLUMNS {
            let at = head.left_center() + vec2(x, 0.0);
            ui.painter().text(at, Align2::LEFT_CENTER, title, small.clone(), colours.weak);
        }
        let (view, chosen) = (&self.view, &mut self.chosen);
        self.list.show(ui, view.len(), ROW, |ui, index, rect| {
            let Some(row) = view.row(index) else { return };
            let (who, what) = row.words(trace);
            let response = ui.interact(rect, ui.id().with(("row", index)), Sense::click());
            let label = format!("{who}: {what}");
            response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Button, true, label.clone()));
            if response.clicked() {
                *chosen = Some(*row);
            }
            let is_chosen = chosen.is_some_and(|chosen| chosen.number == row.number);
            let painter = ui.painter();
            if is_chosen {
                painter.rect_filled(rect, 0.0, colours.accent.gamma_multiply(0.35));
            } else if response.hovered() {
                painter.rect_filled(rect, 0.0, colours.card);
            } else if index % 2 == 1 {
                painter.rect_filled(rect, 0.0, colours.panel.gamma_multiply(0.5));
            }
            let mono = FontId::monospace(12.5);
            let text = |x, text, colour| chrome::cell(painter, rect, x, text, &mono, colour);
            text(COLUMNS[0].0, seconds(row.event.at_ns), colours.weak);
            if row.event.cpu != engine::trace::Event::NO_CPU {
                text(COLUMNS[1].0, row.event.cpu.to_string(), colours.weak);
            }
            if let Some(instruction) = row.instruction(trace) {
                text(COLUMNS[2].0, cut(&instruction, 28), colours.weak);
            }
            text(COLUMNS[3].0, cut(&who, 14), colour(&row.event.what, row.device(trace)));
            text(COLUMNS[4].0, what, colours.text);
        });
    }

    fn details(&self, ui: &mut Ui, trace: &Trace) {
        let colours = theme::colours();
        let Some(row) = &self.chosen else {
            chrome::heading(ui, "Details");
            ui.label(RichText::new("Click a row to see its value bit by bit.").color(colours.weak));
            let standing = trace.standing();
            ui.add_space(8.0);
            for (name, value) in [
                ("events", standing.events.to_string()),
                ("kept", standing.kept.to_string()),
                ("memory, MiB", (standing.memory_bytes >> 20).to_string()),
            ] {
                fact(ui, name, &value);
            }
            return;
        };
        let (who, what) = row.words(trace);
        ui.label(RichText::new(who).size(16.0).strong());
        ui.label(what);
        ui.add_space(6.0);
        if let Some(instruction) = row.instruction(trace) {
            ui.add(egui::Label::new(RichText::new(instruction).monospace()).selectable(true));
        }
        fact(ui, "device", row.device(trace));
        fact(ui, "guest time, s", &seconds(row.event.at_ns));
        if row.count > 1 {
            fact(ui, "times", &grouped(row.count));
            fact(ui, "over, µs", &format!("{:.1}", (row.event.at_ns - row.begun_ns) as f64 / 1e3));
        }
        if let What::Access { value, width, .. } = row.event.what {
            ui.add_space(8.0);
            chrome::heading(ui, "Bits of the value");
            for byte in (0..width.bytes()).rev() {
                let bits = value >> (8 * byte) & 0xFF;
                let text = format!(
                    "{:>2}..{:<2}  {:04b} {:04b}  {bits:02x}",
                    8 * byte + 7,
                    8 * byte,
                    bits >> 4,
                    bits & 15
                );
                ui.label(RichText::new(text).monospace());
            }
        }
    }
}

/// A figure with its name.
fn fact(ui: &mut Ui, name: &str, value: &str) {
    chrome::line(ui, |ui| {
        ui.label(RichText::new(name).color(theme::colours().weak));
        ui.label(RichText::new(value).monospace());
    });
}

/// Guest nanoseconds as seconds to the microsecond.
pub fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1000)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Each device its own colour, always the same; interrupts and timers theirs.
fn colour(what: &What, device: &str) -> egui::Color32 {
    let colours = theme::colours();
    match what {
        What::Access { .. } => {
            let sum =
                device.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            colours.of(sum % 6)
        }
        What::Raised { .. } | What::Delivered { .. } | What::Acknowledged { .. } => colours.bad,
        What::LocalTimer { .. } | What::TimerEdge { .. } => colours.warn,
        What::Slice { .. } => colours.weak,
    }
}
