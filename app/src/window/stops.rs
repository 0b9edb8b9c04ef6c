//! What a machine is to stop at: the list with its hits, and the form for one more.

use egui::{ComboBox, DragValue, RichText, ScrollArea, Ui, vec2};
use engine::Session;
use engine::machine::Timer;

use super::action::Action;
use super::chrome;
use super::machines::{Entry, Id, Standing};
use super::stop_draft::{ACCESSES, EXITS, KINDS, MODES, SOURCES, StopDraft};
use super::theme;
use crate::control::{BreakAction, Command, debug};
use crate::running::Running;

/// Adds, removes or switches a condition.
pub fn action(id: Id, action: BreakAction) -> Action {
    Action::Do(id, Command::Break { action })
}

/// Adds a condition that is written as `ctl break add` takes it.
pub fn add(id: Id, condition: &str) -> Action {
    let condition = condition.split(' ').map(str::to_owned).collect();
    action(id, BreakAction::Add { condition, ignore: 0 })
}

/// The conditions in a row, for pages that set some: why the machine stands still, and what it will stop at.
pub fn strip(ui: &mut Ui, entry: &Entry, machine: &dyn Running, asked: &mut Vec<Action>) {
    let Some(session) = machine.session() else { return };
    let colours = theme::colours();
    let conditions = session.conditions();
    let stopped = session.last_stop().filter(|_| entry.standing() == Standing::Paused);
    if conditions.is_empty() && stopped.is_none() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        if let Some(stopped) = stopped {
            let text = format!("Stopped. {}", stopped.in_words());
            ui.label(RichText::new(text).color(colours.warn));
        }
        if !conditions.is_empty() {
            ui.label(RichText::new("Stops at").color(colours.weak));
        }
        for set in &conditions {
            let text = format!("{}  ×", debug::named(&set.condition, &session.symbols()));
            let button = egui::Button::new(RichText::new(text).monospace());
            action(entry.id, BreakAction::Remove { id: Some(set.id) }).widget(ui, button, true, asked);
        }
    });
}

/// The whole list, and the form.
pub fn show(
    ui: &mut Ui,
    id: Id,
    machine: &dyn Running,
    timers: &[Timer],
    draft: &mut StopDraft,
    asked: &mut Vec<Action>,
) {
    let colours = theme::colours();
    let Some(session) = machine.session() else {
        ui.label(RichText::new("This machine cannot be stopped at conditions.").color(colours.weak));
        return;
    };
    form(ui, id, session, timers, draft, asked);
    ui.add_space(8.0);
    ScrollArea::vertical().auto_shrink([false; 2]).show(ui, |ui| list(ui, id, session, asked));
}

fn list(ui: &mut Ui, id: Id, session: &Session, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    let conditions = session.conditions();
    if conditions.is_empty() {
        let text = "The machine stops nowhere by itself. Add a condition above, or click a line of code.";
        ui.label(RichText::new(text).color(colours.weak));
        return;
    }
    let met = session.last_stop().map(|stopped| stopped.conditions).unwrap_or_default();
    let symbols = session.symbols();
    egui::Grid::new("conditions").striped(true).spacing(vec2(18.0, 4.0)).show(ui, |ui| {
        for head in ["", "on", "stops at", "hits", "ignored", ""] {
            ui.label(RichText::new(head).small().color(colours.weak));
        }
        ui.end_row();
        for set in &conditions {
            let colour = if met.contains(&set.id) { colours.warn } else { colours.text };
            ui.label(RichText::new(set.id.to_string()).monospace().color(colours.weak));
            let mut on = set.enabled;
            if ui.checkbox(&mut on, "").on_hover_text("Off, it stays in the list and stops nothing").changed()
            {
                let of = Some(set.id);
                let change =
                    if on { BreakAction::Enable { id: of } } else { BreakAction::Disable { id: of } };
                asked.push(action(id, change));
            }
            ui.label(RichText::new(debug::named(&set.condition, &symbols)).monospace().color(colour));
            ui.label(RichText::new(set.hits.to_string()).monospace());
            let ignored = if set.ignore > 0 { format!("{} more", set.ignore) } else { String::new() };
            ui.label(RichText::new(ignored).monospace().color(colours.weak));
            action(id, BreakAction::Remove { id: Some(set.id) }).button(ui, asked);
            ui.end_row();
        }
    });
    if conditions.len() > 1 {
        let button = egui::Button::new("Remove all");
        action(id, BreakAction::Remove { id: None }).widget(ui, button, true, asked);
    }
}

fn form(
    ui: &mut Ui,
    id: Id,
    session: &Session,
    timers: &[Timer],
    draft: &mut StopDraft,
    asked: &mut Vec<Action>,
) {
    let colours = theme::colours();
    chrome::heading(ui, "Stop at");
    ui.horizontal_wrapped(|ui| {
        for kind in KINDS {
            ui.selectable_value(&mut draft.kind, kind, kind.word()).on_hover_text(kind.meaning());
        }
    });
    let condition = ui
        .horizontal_wrapped(|ui| {
            fields(ui, timers, draft);
            ui.label(RichText::new("ignoring").color(colours.weak));
            let ignored = DragValue::new(&mut draft.ignore).range(0..=u64::from(u32::MAX)).suffix(" times");
            ui.add(ignored).on_hover_text("Do not stop the first so many times");
            let condition = draft.condition(&session.symbols());
            let add = BreakAction::Add { condition: draft.words(), ignore: draft.ignore };
            action(id, add).button_if(ui, condition.is_ok(), asked);
            condition
        })
        .inner;
    let (text, colour) = match condition {
        Ok(_) => (format!("{}.", draft.kind.meaning()), colours.weak),
        Err(reason) => (format!("{}: {reason}.", draft.kind.meaning()), colours.weak),
    };
    ui.label(RichText::new(text).small().color(colour));
}

/// The fields of the chosen kind.
fn fields(ui: &mut Ui, timers: &[Timer], draft: &mut StopDraft) {
    use super::stop_draft::Kind;
    let text = |ui: &mut Ui, text: &mut String, hint: &str, width: f32| {
        ui.add(theme::text_field(text).hint_text(hint).desired_width(width));
    };
    match draft.kind {
        Kind::Execute => text(ui, &mut draft.place, "address or symbol", 170.0),
        Kind::Data | Kind::Physical => {
            text(ui, &mut draft.place, "address or symbol", 170.0);
            text(ui, &mut draft.bytes, "bytes", 50.0);
            ui.label(RichText::new("bytes").color(theme::colours().weak));
            choose(ui, "access", &mut draft.access, &ACCESSES, "");
        }
        Kind::Port => {
            text(ui, &mut draft.place, "0x60 or 0x60-0x64", 140.0);
            choose(ui, "access", &mut draft.access, &ACCESSES, "");
        }
        Kind::Interrupt => {
            text(ui, &mut draft.vector, "any vector", 90.0);
            choose(ui, "source", &mut draft.source, &SOURCES, "from anywhere");
        }
        Kind::Exception => {
            text(ui, &mut draft.vector, "any, or #PF", 90.0);
            text(ui, &mut draft.code, "any error code", 110.0);
        }
        Kind::Mode => choose(ui, "mode", &mut draft.mode, &MODES, "any change"),
        Kind::Timer => {
            let chosen = if draft.timer.is_empty() { "choose a timer" } else { &draft.timer };
            ComboBox::from_id_salt("timer").selected_text(chosen).width(160.0).show_ui(ui, |ui| {
                for timer in timers {
                    ui.selectable_value(&mut draft.timer, timer.name.clone(), &timer.name);
                }
            });
        }
        Kind::Exit => choose(ui, "exit", &mut draft.exit, &EXITS, ""),
    }
}

/// One of several words; the empty one is shown as `any`.
fn choose(ui: &mut Ui, salt: &str, chosen: &mut &'static str, words: &[&'static str], any: &str) {
    let shown = |word: &str| if word.is_empty() { any.to_owned() } else { word.to_owned() };
    ComboBox::from_id_salt(salt).selected_text(shown(chosen)).width(120.0).show_ui(ui, |ui| {
        for word in words {
            ui.selectable_value(chosen, *word, shown(word));
        }
    });
}
