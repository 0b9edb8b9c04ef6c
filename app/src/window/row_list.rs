//! A list of any number of rows of one height, of which only those in view are drawn. Places are whole rows, so that a
//! million rows scroll as exactly as ten; a scroll area counts in points and loses them.

use egui::{Color32, Rect, Sense, Ui, pos2, vec2};

use super::theme;

/// Where such a list stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RowList {
    /// The first row in view.
    top: f64,
    /// Whether it stays at the end as rows come.
    pub follows: bool,
}

impl Default for RowList {
    fn default() -> RowList {
        RowList { top: 0.0, follows: true }
    }
}

/// Width of the scroll bar, in points.
const BAR: f32 = 10.0;

impl RowList {
    /// Shows `total` rows of `height` points; `row` draws one into its rectangle.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        total: usize,
        height: f32,
        mut row: impl FnMut(&mut Ui, usize, Rect),
    ) {
        let area = ui.available_rect_before_wrap();
        let response = ui.allocate_rect(area, Sense::hover());
        let in_view = (area.height() / height).floor().max(1.0) as f64;
        let last_top = (total as f64 - in_view).max(0.0);
        if response.contains_pointer() {
            let wheel = ui.input(|input| input.smooth_scroll_delta().y);
            self.scroll(f64::from(-wheel / height), last_top);
        }
        let keys = |key| ui.input(|input| input.key_pressed(key));
        if response.contains_pointer() {
            for (key, rows) in [
                (egui::Key::PageDown, in_view),
                (egui::Key::PageUp, -in_view),
                (egui::Key::End, f64::INFINITY),
                (egui::Key::Home, f64::NEG_INFINITY),
            ] {
                if keys(key) {
                    self.scroll(rows, last_top);
                }
            }
        }
        self.bar(ui, area, in_view, total as f64, last_top);
        self.top = if self.follows { last_top } else { self.top.clamp(0.0, last_top) };
        let first = self.top as usize;
        let rows = Rect::from_min_max(area.min, area.max - vec2(BAR + 2.0, 0.0));
        let clip = ui.clip_rect();
        ui.set_clip_rect(clip.intersect(rows));
        for (line, index) in (first..total).take(in_view as usize + 1).enumerate() {
            let at = rows.min + vec2(0.0, line as f32 * height);
            row(ui, index, Rect::from_min_size(at, vec2(rows.width(), height)));
        }
        ui.set_clip_rect(clip);
    }

    /// Moves by so many rows; at the end, the list follows again.
    fn scroll(&mut self, rows: f64, last_top: f64) {
        if rows == 0.0 {
            return;
        }
        self.top = (self.top + rows).clamp(0.0, last_top);
        self.follows = self.top >= last_top;
    }

    fn bar(&mut self, ui: &Ui, area: Rect, in_view: f64, total: f64, last_top: f64) {
        if last_top <= 0.0 {
            return;
        }
        let colours = theme::colours();
        let track = Rect::from_min_max(pos2(area.right() - BAR, area.top()), area.max);
        let length = (track.height() * (in_view / total) as f32).max(24.0).min(track.height());
        let room = track.height() - length;
        let response = ui.interact(track, ui.id().with("bar"), Sense::click_and_drag());
        if let Some(pointer) = response.interact_pointer_pos() {
            let part = ((pointer.y - track.top() - length / 2.0) / room.max(1.0)).clamp(0.0, 1.0);
            self.top = f64::from(part) * last_top;
            self.follows = part >= 1.0;
        }
        let shown = if self.follows { last_top } else { self.top };
        let at = track.top() + room * (shown / last_top) as f32;
        let handle = Rect::from_min_size(pos2(track.left() + 2.0, at), vec2(BAR - 4.0, length));
        let colour: Color32 = if response.hovered() { colours.weak } else { colours.button };
        ui.painter().rect_filled(handle, 3.0, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_until_scrolled_up_and_again_at_the_end() {
        let mut list = RowList { top: 1e6, follows: true };
        list.scroll(-3.0, 1e6);
        assert!(!list.follows && list.top == 1e6 - 3.0, "rows are exact at a million");
        list.scroll(5.0, 1e6);
        assert!(list.follows);
    }
}
