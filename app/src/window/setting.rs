//! A setting as a line: its name, and a field with its value as `ctl set` writes it. Enter sets it, Escape leaves it.

use egui::text::{CCursor, CCursorRange};
use egui::{Align2, FontId, Key, Response, Sense, Ui, vec2};

use super::action::{Action, what_set_does};
use super::machines::Id;
use super::theme;

/// Width of the names of settings.
const NAME: f32 = 92.0;
/// Width of their fields.
const FIELD: f32 = 64.0;

/// Shows the field of `key`, which is `value` now; what is typed is asked for.
pub fn field(
    ui: &mut Ui,
    machine: Id,
    (key, name): (&'static str, &str),
    value: &str,
    asked: &mut Vec<Action>,
) {
    let id = ui.make_persistent_id((machine, key));
    let typed = ui.data(|data| data.get_temp::<String>(id));
    let mut text = typed.unwrap_or_else(|| value.to_owned());
    let title = label(ui, name);
    let edit = theme::text_field(&mut text).id(id).desired_width(FIELD);
    let response = ui.add(edit).labelled_by(title.id).on_hover_text(what_set_does(key));
    if response.gained_focus() {
        choose_all(ui, id, text.chars().count());
    }
    if response.lost_focus() {
        ui.data_mut(|data| data.remove_temp::<String>(id));
        let wanted = text.trim();
        if wanted != value && !ui.input(|input| input.key_pressed(Key::Escape)) {
            asked.push(Action::set(machine, key, wanted));
        }
    } else if response.has_focus() {
        ui.data_mut(|data| data.insert_temp(id, text));
    }
}

/// What is typed first replaces the value.
fn choose_all(ui: &Ui, id: egui::Id, count: usize) {
    let mut state = egui::text_edit::TextEditState::load(ui.ctx(), id).unwrap_or_default();
    state.cursor.set_char_range(Some(CCursorRange::two(CCursor::new(0), CCursor::new(count))));
    state.store(ui.ctx(), id);
}

/// The name of a setting.
fn label(ui: &mut Ui, text: &str) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(NAME, 22.0), Sense::hover());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Label, true, text));
    let font = FontId::proportional(13.0);
    ui.painter().text(rect.left_center(), Align2::LEFT_CENTER, text, font, theme::colours().weak);
    response
}
