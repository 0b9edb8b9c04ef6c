//! The pages of the window, and the rail that leads to them.

use egui::{Color32, Frame, Pos2, Rect, Sense, Stroke, Ui, pos2, vec2};

use super::action::Action;
use super::theme;

/// What the window shows. All but the first two look at machines that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// All machines.
    Library,
    /// The form for a new one.
    NewMachine,
    /// One machine's screen.
    Console,
    /// Its registers, tables, memory and code.
    Registers,
    /// Its timers, and the host's.
    Timers,
    /// What leaves the guest, and where it goes.
    Exits,
    /// What it says to its devices.
    Trace,
    /// Its drives, its cable, and what each device has done.
    Devices,
    /// Its saved states.
    Snapshots,
    /// What all machines have and use.
    Resources,
}

/// The pages on the rail, from the top.
pub const RAIL: [Page; 9] = [
    Page::Library,
    Page::Console,
    Page::Registers,
    Page::Timers,
    Page::Exits,
    Page::Trace,
    Page::Devices,
    Page::Snapshots,
    Page::Resources,
];

impl Page {
    /// What the rail says.
    pub fn text(self) -> &'static str {
        match self {
            Page::Library => "Machines",
            Page::NewMachine => "New machine",
            Page::Console => "Console",
            Page::Registers => "Registers",
            Page::Timers => "Timers",
            Page::Exits => "Exits",
            Page::Trace => "Trace",
            Page::Devices => "Devices",
            Page::Snapshots => "Snapshots",
            Page::Resources => "Resources",
        }
    }

    /// What it is for, in a sentence.
    pub fn tooltip(self) -> &'static str {
        match self {
            Page::Library => "All machines: start, open, make a new one",
            Page::NewMachine => "Make a machine: what it boots, memory, CPUs",
            Page::Console => "The machine's screen, keyboard and mouse",
            Page::Registers => "Every register of every virtual CPU, tables, page walks, memory and code",
            Page::Timers => "The guest's timers and the host's slices on one time axis",
            Page::Exits => "What leaves the guest, how often, and who deals with it",
            Page::Trace => "What the guest says to its devices, in sentences",
            Page::Devices => "Disks in and out, the network cable, and what each device has done",
            Page::Snapshots => "Save the machine as it is, and go back to that",
            Page::Resources => "CPU, memory and I/O of all machines, and how to move them",
        }
    }

    /// Whether it looks at one machine, so that a machine must be chosen.
    pub fn is_of_a_machine(self) -> bool {
        !matches!(self, Page::Library | Page::NewMachine | Page::Resources)
    }
}

/// Width of the rail, in points.
const WIDTH: f32 = 78.0;
/// Height of an entry.
const ENTRY: f32 = 56.0;

/// Shows the rail.
pub fn rail(ui: &mut Ui, page: Page, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    let frame = Frame::new().fill(colours.panel).inner_margin(egui::Margin::symmetric(0, 6));
    let panel = egui::Panel::left("rail").frame(frame).exact_size(WIDTH).resizable(false);
    panel.show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        for entry in RAIL {
            let chosen = page == entry || page == Page::NewMachine && entry == Page::Library;
            let action = Action::Show(entry);
            let response =
                item(ui, entry.text(), chosen, |painter, at, colour| icon(painter, entry, at, colour));
            let tooltip = match action.shortcut() {
                Some(keys) => format!("{} ({})", entry.tooltip(), ui.ctx().format_shortcut(&keys)),
                None => entry.tooltip().to_owned(),
            };
            if response.on_hover_text(tooltip).clicked() {
                asked.push(action);
            }
        }
        ui.with_layout(egui::Layout::bottom_up(egui::Align::Min), |ui| {
            let action = Action::ToggleTheme;
            let text = match theme::shade() {
                theme::Shade::Dark => "Light",
                theme::Shade::Light => "Dark",
            };
            let response = item(ui, text, false, |painter, at, colour| {
                painter.circle_stroke(at, 7.0, Stroke::new(1.5, colour));
                painter.circle_filled(at, 3.0, colour);
            });
            if response.on_hover_text(action.tooltip()).clicked() {
                asked.push(action);
            }
        });
    });
}

fn item(
    ui: &mut Ui,
    text: &str,
    chosen: bool,
    icon: impl FnOnce(&egui::Painter, Pos2, Color32),
) -> egui::Response {
    let colours = theme::colours();
    let (rect, response) = ui.allocate_exact_size(vec2(WIDTH, ENTRY), Sense::click());
    let label = text.to_owned();
    response
        .widget_info(|| egui::WidgetInfo::selected(egui::WidgetType::Button, true, chosen, label.clone()));
    let painter = ui.painter();
    if chosen || response.hovered() {
        let fill = if chosen { colours.card } else { colours.button.gamma_multiply(0.5) };
        painter.rect_filled(rect.shrink2(vec2(6.0, 2.0)), 6.0, fill);
    }
    if chosen {
        let bar = Rect::from_min_size(rect.left_top() + vec2(0.0, 8.0), vec2(3.0, ENTRY - 16.0));
        painter.rect_filled(bar, 1.5, colours.accent);
    }
    let colour = if chosen { colours.text } else { colours.weak };
    icon(
        painter,
        pos2(rect.center().x, rect.top() + 21.0),
        if chosen { colours.accent } else { colours.weak },
    );
    let at = pos2(rect.center().x, rect.bottom() - 8.0);
    painter.text(at, egui::Align2::CENTER_BOTTOM, text, egui::FontId::proportional(12.0), colour);
    response
}

/// A small drawing for each page.
fn icon(painter: &egui::Painter, page: Page, at: Pos2, colour: Color32) {
    let stroke = Stroke::new(1.5, colour);
    let line = |x1: f32, y1: f32, x2: f32, y2: f32| {
        painter.line_segment([at + vec2(x1, y1), at + vec2(x2, y2)], stroke);
    };
    let rect = |x: f32, y: f32, w: f32, h: f32| {
        let rect = Rect::from_min_size(at + vec2(x, y), vec2(w, h));
        painter.rect_stroke(rect, 1.5, stroke, egui::StrokeKind::Middle);
    };
    match page {
        Page::Library | Page::NewMachine => {
            for (x, y) in [(-8.0, -8.0), (2.0, -8.0), (-8.0, 2.0), (2.0, 2.0)] {
                rect(x, y, 6.0, 6.0);
            }
        }
        Page::Console => {
            rect(-10.0, -8.0, 20.0, 13.0);
            line(-5.0, 9.0, 5.0, 9.0);
        }
        Page::Registers => {
            for y in [-7.0, 0.0, 7.0] {
                line(-10.0, y, -6.0, y);
                line(-3.0, y, 10.0, y);
            }
        }
        Page::Timers => {
            painter.circle_stroke(at, 9.0, stroke);
            line(0.0, 0.0, 0.0, -6.0);
            line(0.0, 0.0, 4.5, 2.0);
        }
        Page::Exits => {
            line(-10.0, -4.0, 8.0, -4.0);
            line(4.0, -8.0, 9.0, -4.0);
            line(10.0, 4.0, -8.0, 4.0);
            line(-4.0, 8.0, -9.0, 4.0);
        }
        Page::Trace => {
            for (y, ticks) in [(-6.0, [-8.0, -2.0, 5.0]), (0.0, [-5.0, 0.0, 8.0]), (6.0, [-9.0, 3.0, 7.0])] {
                for x in ticks {
                    line(x, y - 2.0, x, y + 2.0);
                }
            }
        }
        Page::Devices => {
            rect(-9.0, -8.0, 18.0, 16.0);
            painter.circle_stroke(at + vec2(0.0, -1.0), 4.0, stroke);
            line(3.0, 5.0, 6.0, 5.0);
        }
        Page::Snapshots => {
            rect(-9.0, -5.0, 14.0, 13.0);
            line(-5.0, -8.5, 8.5, -8.5);
            line(8.5, -8.5, 8.5, 4.5);
        }
        Page::Resources => {
            for (x, height) in [(-8.0, 8.0), (-2.0, 16.0), (4.0, 11.0)] {
                rect(x, 8.0 - height, 4.0, height);
            }
        }
    }
}
