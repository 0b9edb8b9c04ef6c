//! Code and stack of the registers page, with the names of addresses, and a dot where the machine is to stop.

use cpu::Registers;
use egui::{FontId, Rect, RichText, Sense, Ui, pos2, vec2};
use engine::debugger::{Condition, StopCondition};
use engine::inspect::{code, stack, summary};

use super::super::action::Action;
use super::super::chrome;
use super::super::inspector;
use super::super::machines::Id;
use super::super::theme;
use crate::control::{BreakAction, Command, debug};
use crate::running::Running;

/// Height of a line.
const LINE: f32 = 17.0;
/// Width of the stack.
const STACK: f32 = 262.0;
/// With names behind its values.
const NAMED_STACK: f32 = 400.0;
/// Narrower than this, the stack lies below the code.
const NARROW: f32 = 600.0;
/// Callers shown.
const CALLERS: usize = 6;

/// Shows both.
pub fn show(ui: &mut Ui, id: Id, machine: &dyn Running, registers: &Registers, asked: &mut Vec<Action>) {
    let rows = ((ui.available_height() - 40.0) / LINE).clamp(8.0, 60.0) as usize;
    let has_names = machine.session().is_some_and(|session| !session.symbols().is_empty());
    let stack_width = if has_names && ui.available_width() > 900.0 { NAMED_STACK } else { STACK };
    if ui.available_width() < NARROW {
        ui.spacing_mut().item_spacing.y = 0.0;
        code_lines(ui, id, machine, registers, rows / 2, asked);
        ui.add_space(8.0);
        return stack_lines(ui, machine, registers, rows / 2);
    }
    ui.horizontal_top(|ui| {
        let code_width = ui.available_width() - stack_width - 16.0;
        ui.vertical(|ui| {
            ui.set_width(code_width);
            ui.spacing_mut().item_spacing.y = 0.0;
            code_lines(ui, id, machine, registers, rows, asked);
        });
        ui.vertical(|ui| {
            ui.set_width(stack_width);
            ui.spacing_mut().item_spacing.y = 0.0;
            if has_names {
                callers(ui, machine, registers);
            }
            stack_lines(ui, machine, registers, rows);
        });
    });
}

fn code_lines(
    ui: &mut Ui,
    id: Id,
    machine: &dyn Running,
    registers: &Registers,
    rows: usize,
    asked: &mut Vec<Action>,
) {
    let colours = theme::colours();
    let conditions = machine.session().map(|session| session.conditions());
    chrome::heading(ui, &format!("Code, {}-bit, from RIP", summary::code_bits(registers)));
    ui.add_space(4.0);
    let lines = code::disassemble(registers, machine.memory(), registers.rip, rows);
    if lines.is_empty() {
        ui.label(RichText::new("No memory is mapped at RIP.").color(colours.bad));
    }
    let mut left = rows;
    for line in &lines {
        let label = debug::label(machine, line.linear);
        left = left.saturating_sub(1 + usize::from(label.is_some()));
        if left == 0 {
            break;
        }
        if let Some(label) = label {
            ui.label(RichText::new(format!("{label}:")).monospace().color(colours.of(0)));
        }
        let set = conditions.as_deref().map(|all| stop_at(all, line.linear));
        if let Some(command) = code_line(ui, machine, line, line.offset == registers.rip, set) {
            asked.push(Action::Do(id, Command::Break { action: command }));
        }
    }
}

/// The condition that stops before the instruction at this address.
fn stop_at(conditions: &[StopCondition], linear: u64) -> Option<u32> {
    let is_here = |set: &&StopCondition| set.condition == Condition::Execute { address: linear };
    conditions.iter().find(is_here).map(|set| set.id)
}

/// One instruction; clicked, the machine is to stop there, or no more. `set`: the condition that says so; `None`: the
/// machine cannot be stopped.
fn code_line(
    ui: &mut Ui,
    machine: &dyn Running,
    line: &code::Line,
    here: bool,
    set: Option<Option<u32>>,
) -> Option<BreakAction> {
    let colours = theme::colours();
    let sense = if set.is_some() { Sense::click() } else { Sense::hover() };
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), LINE), sense);
    let target = line.target.and_then(|target| debug::name(machine, target));
    let target = target.map_or(String::new(), |name| format!("  <{name}>"));
    let text = format!("{}{target}", line.text);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Label, true, text.clone()));
    let painter = ui.painter().with_clip_rect(rect);
    if here {
        painter.rect_filled(rect, 2.0, colours.accent.gamma_multiply(0.3));
    } else if response.hovered() {
        painter.rect_filled(rect, 2.0, colours.card);
    }
    if set.flatten().is_some() {
        painter.circle_filled(rect.left_center() + vec2(6.0, 0.0), 4.0, colours.bad);
    }
    let mono = FontId::monospace(12.5);
    let cell = |x, text, colour| chrome::cell(&painter, rect, x, text, &mono, colour);
    let bytes: String = line.bytes.iter().take(7).map(|byte| format!("{byte:02x}")).collect();
    let more = if line.bytes.len() > 7 { "…" } else { "" };
    cell(16.0, format!("{:016x}", line.offset), if here { colours.text } else { colours.weak });
    // Where there is little room, the bytes give way.
    let at = if rect.width() > 470.0 {
        let clip = Rect::from_min_max(rect.min, pos2(rect.left() + 268.0, rect.bottom()));
        let painter = painter.with_clip_rect(clip);
        chrome::cell(&painter, rect, 148.0, format!("{bytes}{more}"), &mono, colours.weak);
        272.0
    } else {
        148.0
    };
    cell(at, text, colours.text);
    let set = set?;
    let hint =
        if set.is_some() { "Click to stop here no more" } else { "Click to stop before this instruction" };
    response.on_hover_text(hint).clicked().then(|| match set {
        Some(id) => BreakAction::Remove { id: Some(id) },
        None => {
            let condition = vec!["execute".to_owned(), format!("{:#x}", line.linear)];
            BreakAction::Add { condition, ignore: 0 }
        }
    })
}

/// Who called, by the saved frame pointers.
fn callers(ui: &mut Ui, machine: &dyn Running, registers: &Registers) {
    let colours = theme::colours();
    chrome::heading(ui, "Called from, by RBP");
    ui.add_space(4.0);
    let frames = stack::frames(registers, machine.memory());
    if frames.is_empty() {
        ui.label(RichText::new("no frames").small().color(colours.weak));
    }
    for frame in frames.iter().take(CALLERS) {
        let name = debug::name(machine, code::linear(registers, frame.returns_to));
        chrome::line(ui, |ui| {
            ui.label(RichText::new(format!("{:x}", frame.returns_to)).monospace().color(colours.weak));
            let name = RichText::new(name.unwrap_or_default()).monospace().color(colours.of(0));
            ui.add(egui::Label::new(name).truncate());
        });
    }
    ui.add_space(6.0);
}

fn stack_lines(ui: &mut Ui, machine: &dyn Running, registers: &Registers, rows: usize) {
    let colours = theme::colours();
    let (width, lines) = inspector::stack(registers, machine.memory(), rows as u64);
    chrome::heading(ui, "Stack, top first");
    ui.add_space(4.0);
    for line in lines {
        if ui.available_height() < LINE {
            break;
        }
        let value = line
            .value
            .map_or("no memory".to_owned(), |value| format!("{value:0digits$x}", digits = 2 * width));
        let name = line.value.and_then(|value| debug::name(machine, code::linear(registers, value)));
        chrome::line(ui, |ui| {
            ui.label(RichText::new(format!("{:012x}", line.offset)).monospace().color(colours.weak));
            ui.label(RichText::new(value).monospace());
            if let Some(name) = name {
                ui.add(egui::Label::new(RichText::new(name).monospace().color(colours.of(0))).truncate());
            }
        });
    }
}
